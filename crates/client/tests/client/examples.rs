//! The examples, as they are, against a broker on loopback sockets: what one has sent the other prints, and both end.

use quipu_env_tokio::TokioEnv;

use crate::loopback::with_own_broker;

#[expect(dead_code, reason = "an example begins at its `main`")]
#[path = "../../examples/consume.rs"]
mod consume;
#[expect(dead_code, reason = "an example begins at its `main`")]
#[path = "../../examples/produce.rs"]
mod produce;

async fn both(env: TokioEnv, bootstrap: String) {
    let (mut sent, mut printed) = (Vec::new(), Vec::new());
    for count in [5, 2] {
        produce::produce(env.clone(), &bootstrap, "orders", count, &mut sent).await.unwrap();
    }
    consume::consume(env.clone(), &bootstrap, "orders", &mut printed).await.unwrap();
    let [sent, printed] = [sent, printed].map(|bytes| String::from_utf8(bytes).unwrap());
    let mut places: Vec<&str> = printed.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    let mut expected: Vec<&str> = sent.lines().collect();
    places.sort_unstable();
    expected.sort_unstable();
    assert_eq!(places, expected);
    let orders = |number: u32| printed.lines().filter(|line| line.ends_with(&format!(": order {number}"))).count();
    assert_eq!([0, 1, 2, 3, 4, 5].map(orders), [2, 2, 1, 1, 1, 0]);
    let missing = consume::consume(env, &bootstrap, "no-such-topic", &mut Vec::new()).await.unwrap_err();
    assert!(missing.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{missing}");
}

#[test]
fn what_one_example_sends_the_other_prints() {
    with_own_broker(both);
}
