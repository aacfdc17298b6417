//! Who may ask and push when, and what is kept of it.

use quipu_metadata::config::ClientMetrics;
use rand::SeedableRng;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(300);

struct Fixture {
    pushes: ClientPushes,
    now: Instant,
}

fn client(number: u32) -> Client {
    let mut id = [1; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Client {
        instance_id: ClientInstanceId(id),
        client_id: "c".into(),
        software_name: "test".into(),
        software_version: "1".into(),
        address: "127.0.0.1".into(),
        port: 1,
    }
}

impl Fixture {
    fn new() -> Self {
        Self { pushes: ClientPushes::new(Rng::seed_from_u64(3)), now: Instant::ZERO }
    }

    fn ask(&self, number: u32) -> Result<i32, ErrorCode> {
        let wanted = self.pushes.ask(self.now, &ClientMetrics::default(), &client(number))?;
        assert_eq!((wanted.metrics.len(), wanted.interval_ms), (0, ClientMetrics::INTERVAL_MS));
        Ok(wanted.subscription_id)
    }

    fn push(&self, number: u32, change: impl FnOnce(&mut Push)) -> Result<(), ErrorCode> {
        let subscription_id = wanted_of(&ClientMetrics::default(), &client(number)).subscription_id;
        let metrics = otlp::tests::message("m", 5, 1).into();
        let mut push = Push { subscription_id, terminating: false, codec: 0, metrics };
        change(&mut push);
        self.pushes.push(self.now, &ClientMetrics::default(), &client(number), 1000, &push)
    }
}

#[test]
fn a_client_asks_once_pushes_at_its_interval_and_once_more_at_its_end() {
    let mut fixture = Fixture::new();
    assert!(fixture.ask(1).is_ok());
    assert_eq!(fixture.ask(1), Err(ErrorCode::ThrottlingQuotaExceeded));
    assert_eq!(fixture.push(1, |_| ()), Ok(()), "the first push comes when the client likes");
    fixture.now = fixture.now + SECOND;
    assert_eq!(fixture.push(1, |_| ()), Err(ErrorCode::ThrottlingQuotaExceeded));
    fixture.now = fixture.now + INTERVAL;
    assert_eq!(fixture.push(1, |_| ()), Ok(()));
    fixture.now = fixture.now + SECOND;
    assert_eq!(fixture.push(1, |push| push.terminating = true), Ok(()));
    assert_eq!(fixture.push(1, |push| push.terminating = true), Err(ErrorCode::InvalidRequest));
    let totals = fixture.pushes.totals();
    assert_eq!((totals.pushes, totals.refused), (3, 2));
    assert_eq!(totals.points, BTreeMap::from([("m".to_owned(), 3)]));
}

#[test]
fn what_is_wrong_with_a_push_is_told_and_some_of_it_lets_the_client_ask_again() {
    let mut fixture = Fixture::new();
    let mut refused = |error, change: fn(&mut Push)| {
        assert!(fixture.ask(1).is_ok());
        assert_eq!(fixture.push(1, change), Err(error));
        let may_ask = fixture.ask(1).is_ok();
        fixture.now = fixture.now + INTERVAL;
        may_ask
    };
    assert!(refused(ErrorCode::UnknownSubscriptionId, |push| push.subscription_id ^= 1));
    assert!(refused(ErrorCode::UnsupportedCompressionType, |push| push.codec = 9));
    assert!(!refused(ErrorCode::TelemetryTooLarge, |push| push.metrics = vec![0; 1001].into()));
    assert!(!refused(ErrorCode::InvalidRecord, |push| push.metrics = vec![0xff; 10].into()));
    assert!(!refused(ErrorCode::InvalidRecord, |push| push.codec = 4));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut fixture = Fixture::new();
    for number in 0..20_000 {
        fixture.now = fixture.now + Duration::from_millis(1);
        assert!(fixture.ask(number).is_ok());
    }
    let inner = fixture.pushes.lock();
    assert_eq!(
        (inner.instances.len(), inner.by_use.len()),
        (limits::CLIENT_INSTANCES_MAX, limits::CLIENT_INSTANCES_MAX)
    );
    drop(inner);
    for number in 0..2000_u32 {
        let name = format!("metric-{number}");
        let metrics = otlp::tests::message(&name, 7, 1);
        assert_eq!(fixture.push(19_000, |push| (push.terminating, push.metrics) = (false, metrics.into())), Ok(()));
        fixture.now = fixture.now + INTERVAL;
    }
    let totals = fixture.pushes.totals();
    assert_eq!(totals.points.len(), limits::CLIENT_METRIC_NAMES_MAX + 1);
    assert_eq!(totals.points.values().sum::<u64>(), 2000);
}

#[test]
fn ids_are_random_and_never_zero() {
    let fixture = Fixture::new();
    let ids: BTreeSet<ClientInstanceId> = (0..100).map(|_| fixture.pushes.new_id()).collect();
    assert!(ids.len() == 100 && !ids.contains(&ClientInstanceId::ZERO));
}
