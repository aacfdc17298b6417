//! A controller with a log of images, as small as the replicas' rules allow.

use std::collections::BTreeMap;

use quipu_base::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch};
use quipu_replication::{Ask, BrokerView, Configuration, ConfigurationVersion, Member, PartitionState, Verdict};

/// All that is known at one offset of the metadata log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Image {
    pub(crate) record: PartitionState,
    pub(crate) brokers: BTreeMap<BrokerId, BrokerView>,
    pub(crate) insync_replicas_min: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Controller {
    /// Every image so far; the last one holds.
    pub(crate) log: Vec<Image>,
    pub(crate) last_unfenced: BTreeMap<BrokerId, BrokerEpoch>,
}

pub(crate) fn node_id(node: usize) -> BrokerId {
    BrokerId(i32::try_from(node).unwrap())
}

pub(crate) fn directory(number: usize) -> DirectoryId {
    DirectoryId([u8::try_from(number).unwrap(); 16])
}

pub(crate) fn member(node: usize) -> Member {
    Member { node: node_id(node), directory_id: directory(node) }
}

impl Controller {
    /// A partition on nodes 1 to `nodes`, led by none yet.
    pub(crate) fn new(nodes: usize, replication_factor: usize, insync_replicas_min: usize) -> Self {
        let members: Vec<Member> = (1..=replication_factor).map(member).collect();
        let record = PartitionState {
            replicas: (1..=nodes).map(node_id).collect(),
            replication_factor,
            adding: Vec::new(),
            removing: Vec::new(),
            configuration: Configuration::new(members, insync_replicas_min, replication_factor).unwrap(),
            version: ConfigurationVersion(0),
            leader: None,
            leader_epoch: LeaderEpoch(0),
            unclean_epoch: LeaderEpoch::NONE,
        };
        let image = Image { record, brokers: BTreeMap::new(), insync_replicas_min };
        Self { log: vec![image], last_unfenced: BTreeMap::new() }
    }

    pub(crate) fn now(&self) -> &Image {
        self.log.last().unwrap()
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Image)) {
        let mut image = self.now().clone();
        change(&mut image);
        self.log.push(image);
    }

    /// A broker starts. Every start raises the leader epoch of what it leads.
    pub(crate) fn register(&mut self, node: usize, directory_id: DirectoryId) -> BrokerEpoch {
        let broker_epoch = BrokerEpoch(i64::try_from(self.log.len()).unwrap());
        self.change(|image| {
            image.brokers.insert(node_id(node), BrokerView { directory_id, broker_epoch, live: false });
            if image.record.leader == Some(node_id(node)) {
                image.record.leader_epoch = image.record.leader_epoch.next();
            }
        });
        broker_epoch
    }

    pub(crate) fn set_live(&mut self, node: usize, live: bool) {
        let id = node_id(node);
        self.change(|image| image.brokers.get_mut(&id).unwrap().live = live);
        if live {
            self.last_unfenced.insert(id, self.now().brokers[&id].broker_epoch);
        }
        let leader = self.now().record.leader;
        if (live && leader.is_none()) || (!live && leader == Some(id)) {
            self.elect(None);
        }
    }

    pub(crate) fn is_live(&self, member: Member) -> bool {
        let view = self.now().brokers.get(&member.node);
        view.is_some_and(|view| view.live && view.directory_id == member.directory_id)
    }

    /// The wanted member, or else the one after the present leader, among those that live.
    pub(crate) fn elect(&mut self, wanted: Option<BrokerId>) {
        let record = &self.now().record;
        let live = record.configuration.members.iter().filter(|member| self.is_live(**member));
        let live: Vec<BrokerId> = live.map(|member| member.node).collect();
        let after = record.leader.unwrap_or(BrokerId(0));
        let next = live.iter().find(|node| **node > after).or(live.first()).copied();
        let leader = wanted.filter(|wanted| live.contains(wanted)).or(next);
        self.change(|image| {
            image.record.leader = leader;
            image.record.leader_epoch = image.record.leader_epoch.next();
        });
    }

    /// Answers a request; `declines` makes it decline a change that it could make.
    pub(crate) fn answer(&mut self, ask: &Ask, declines: bool) -> (Verdict, PartitionState) {
        let current = self.now().record.clone();
        let epoch = match ask {
            Ask::Change { epoch, .. } | Ask::GiveUp { epoch, .. } | Ask::Prefer { epoch, .. } => *epoch,
        };
        let verdict = match ask {
            _ if epoch != current.leader_epoch => Verdict::Conflict,
            Ask::Change { version, .. } if *version != current.version => Verdict::Conflict,
            Ask::Change { configuration, .. } => {
                self.change(|image| {
                    image.record.version = ConfigurationVersion(image.record.version.0 + 1);
                    if !declines {
                        image.record.configuration = configuration.clone();
                    }
                });
                if declines { Verdict::Declined } else { Verdict::Accepted }
            }
            Ask::GiveUp { .. } => {
                self.elect(None);
                Verdict::Accepted
            }
            Ask::Prefer { reporter, .. } if !declines && self.is_live(*reporter) => {
                self.elect(Some(reporter.node));
                Verdict::Accepted
            }
            Ask::Prefer { .. } => Verdict::Declined,
        };
        (verdict, self.now().record.clone())
    }
}
