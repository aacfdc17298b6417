//! Heartbeats and their absence, in virtual time.

use quipu_base::{ClusterId, DirectoryId};
use quipu_metadata::{
    Delta, MetadataRecord,
    record::{Registration, StartId},
};

use super::*;

const SETTINGS: SessionSettings =
    SessionSettings { timeout: Duration::from_millis(700), heartbeat_interval: Duration::from_millis(150) };

struct World {
    image: Image,
    sessions: Sessions,
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

impl World {
    /// Brokers 1 to `count`, registered and unfenced, and a controller that becomes active at 0.
    fn new(count: i32) -> Self {
        let mut image = Image::new();
        apply(&mut image, &MetadataRecord::Cluster { cluster_id: ClusterId([1; 16]) });
        for broker in (1..=count).map(BrokerId) {
            let broker_epoch = register(&mut image, broker, 1);
            apply(&mut image, &MetadataRecord::UnfenceBroker { broker, broker_epoch });
        }
        let sessions = Sessions::new(at(0), &image, SETTINGS);
        Self { image, sessions }
    }

    fn epoch(&self, broker: i32) -> BrokerEpoch {
        self.image.broker(BrokerId(broker)).unwrap().broker_epoch
    }

    fn heartbeat(&mut self, ms: u64, broker: i32, wants: Wants) -> Heard {
        let metadata_offset = self.image.next_offset();
        let broker_epoch = self.epoch(broker);
        let heartbeat = Heartbeat { broker: BrokerId(broker), broker_epoch, metadata_offset, wants };
        self.sessions.handle_heartbeat(at(ms), &self.image, &heartbeat).unwrap()
    }

    fn due(&mut self, ms: u64) -> Vec<i32> {
        self.sessions.due(at(ms), &self.image).into_iter().map(|fence| fence.broker.get()).collect()
    }

    fn fence(&mut self, broker: i32) {
        let record = MetadataRecord::FenceBroker { broker: BrokerId(broker), broker_epoch: self.epoch(broker) };
        apply(&mut self.image, &record);
    }
}

fn apply(image: &mut Image, record: &MetadataRecord) {
    image.apply(image.next_offset(), record, &mut Delta::default()).unwrap();
}

fn register(image: &mut Image, broker: BrokerId, start: u8) -> BrokerEpoch {
    let registration = Registration {
        directory_id: DirectoryId([1; 16]),
        start_id: StartId([start; 16]),
        listeners: Vec::new(),
        rack: None,
        features: Vec::new(),
    };
    apply(image, &MetadataRecord::RegisterBroker { broker, registration });
    image.broker(broker).unwrap().broker_epoch
}

#[test]
fn who_is_not_heard_of_is_due_and_told_once_per_timeout() {
    let mut world = World::new(2);
    assert_eq!(world.sessions.next_deadline(), Some(at(700)));
    world.heartbeat(300, 1, Wants::Serve);
    assert_eq!(world.due(699), [0; 0]);
    assert_eq!(world.due(700), [2]);
    assert_eq!(world.due(701), [0; 0], "its fencing is under way");
    assert_eq!(world.due(1400), [1, 2], "the first fencing of 2 failed");
    world.fence(1);
    world.fence(2);
    assert_eq!(world.due(9000), [0; 0]);
    assert_eq!(world.sessions.next_deadline(), None);
}

#[test]
fn a_new_controller_gives_everybody_a_full_session() {
    let mut world = World::new(2);
    world.heartbeat(100, 1, Wants::Serve);
    world.sessions = Sessions::new(at(5000), &world.image, SETTINGS);
    assert_eq!(world.due(5699), [0; 0]);
    assert_eq!(world.due(5700), [1, 2]);
}

#[test]
fn a_fenced_broker_is_unfenced_when_it_has_caught_up() {
    let mut world = World::new(1);
    assert_eq!(world.heartbeat(10, 1, Wants::Serve).decide, None, "it serves already");
    world.fence(1);
    let behind = Heartbeat {
        broker: BrokerId(1),
        broker_epoch: world.epoch(1),
        metadata_offset: Offset(2),
        wants: Wants::Serve,
    };
    let heard = world.sessions.handle_heartbeat(at(20), &world.image, &behind).unwrap();
    assert_eq!(heard.reply, HeartbeatReply { is_fenced: true, is_caught_up: false, may_stop: false });
    assert_eq!(heard.decide, None);
    assert_eq!(world.heartbeat(30, 1, Wants::Wait).decide, None, "it isn't ready");
    // What comes later does not move the goal.
    let goal = world.image.next_offset();
    apply(&mut world.image, &MetadataRecord::Feature { name: "f".into(), level: 1 });
    let caught_up = Heartbeat { metadata_offset: goal, ..behind };
    let heard = world.sessions.handle_heartbeat(at(40), &world.image, &caught_up).unwrap();
    let request = UnfenceBroker { broker: BrokerId(1), broker_epoch: world.epoch(1) };
    assert_eq!(heard.decide, Some(HeartbeatDecision::Unfence(request)));
    assert_eq!(world.sessions.metadata_offset(BrokerId(1)), Some(Offset(4)), "the furthest that it said");
    assert_eq!(world.sessions.last_seen(BrokerId(1)), Some(at(40)));
}

#[test]
fn a_broker_that_stops_is_not_unfenced() {
    let mut world = World::new(1);
    let request = ControlledShutdown { broker: BrokerId(1), broker_epoch: world.epoch(1) };
    assert_eq!(world.heartbeat(10, 1, Wants::ShutDown).decide, Some(HeartbeatDecision::ShutDown(request)));
    world.fence(1);
    let heard = world.heartbeat(20, 1, Wants::ShutDown);
    assert!(heard.reply.may_stop);
    assert_eq!(heard.decide, None);
}

#[test]
fn a_registration_ends_the_session_of_the_former_life() {
    let mut world = World::new(1);
    let old = world.epoch(1);
    register(&mut world.image, BrokerId(1), 2);
    let heartbeat =
        Heartbeat { broker: BrokerId(1), broker_epoch: old, metadata_offset: Offset(9), wants: Wants::Serve };
    let error = world.sessions.handle_heartbeat(at(10), &world.image, &heartbeat).unwrap_err();
    assert!(matches!(error, ControllerError::StaleBrokerEpoch { .. }));
    assert_eq!(world.due(9000), [0; 0], "it is fenced by its registration");
    let unknown = Heartbeat { broker: BrokerId(9), ..heartbeat };
    let error = world.sessions.handle_heartbeat(at(10), &world.image, &unknown).unwrap_err();
    assert_eq!(error, ControllerError::BrokerNotRegistered { broker: BrokerId(9) });
    // Under its new epoch it waits for the unfencing, and has a deadline from then on.
    world.heartbeat(10_000, 1, Wants::Serve);
    assert_eq!(world.sessions.next_deadline(), None);
    let broker_epoch = world.epoch(1);
    apply(&mut world.image, &MetadataRecord::UnfenceBroker { broker: BrokerId(1), broker_epoch });
    world.sessions.follow(at(10_100), &world.image);
    assert_eq!(world.sessions.next_deadline(), Some(at(10_700)));
}

#[test]
fn a_lost_connection_shortens_the_session_until_it_is_heard_of() {
    let mut world = World::new(2);
    world.heartbeat(100, 1, Wants::Serve);
    world.heartbeat(100, 2, Wants::Serve);
    world.sessions.handle_disconnect(at(110), BrokerId(1), Lost::Connection);
    world.sessions.handle_disconnect(at(110), BrokerId(2), Lost::Connection);
    assert_eq!(world.sessions.next_deadline(), Some(at(410)));
    world.heartbeat(250, 2, Wants::Serve);
    assert_eq!(world.due(410), [1]);
    // A deadline that is near already is not put off.
    world.sessions.handle_disconnect(at(900), BrokerId(2), Lost::Connection);
    assert_eq!(world.due(950), [2]);
}

#[test]
fn a_broker_whose_process_has_ended_is_fenced_when_its_heartbeat_does_not_come() {
    let mut world = World::new(2);
    world.heartbeat(100, 1, Wants::Serve);
    world.heartbeat(100, 2, Wants::Serve);
    world.sessions.handle_disconnect(at(110), BrokerId(1), Lost::Process);
    world.sessions.handle_disconnect(at(110), BrokerId(2), Lost::Process);
    assert_eq!(world.sessions.next_deadline(), Some(at(250)));
    // It was not so: somebody else refuses connections in its name.
    world.heartbeat(250, 2, Wants::Serve);
    assert_eq!(world.due(250), [1]);
}

#[test]
fn who_is_silent_is_in_doubt() {
    let mut world = World::new(2);
    world.heartbeat(100, 1, Wants::Serve);
    let silent = |world: &mut World, ms: u64| {
        let doubts = world.sessions.doubts(at(ms));
        [1, 2].map(|broker| doubts.is_silent(BrokerId(broker)))
    };
    assert_eq!(silent(&mut world, 300), [false, false]);
    assert_eq!(silent(&mut world, 301), [false, true]);
    assert_eq!(silent(&mut world, 401), [true, true]);
    world.heartbeat(450, 1, Wants::Serve);
    assert_eq!(silent(&mut world, 500), [false, true]);
}
