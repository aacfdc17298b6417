//! What it costs a group of the classic protocol that many members join it: each join has to cost the same, however many there are.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use core::time::Duration;
use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quipu_base::Timestamp;
use quipu_coordinator::{Context, Machine as _, Token};
use quipu_env::Instant;
use quipu_groups::{
    Groups, Reply, Request, Settings,
    request::{Join, Protocol},
};

fn context(number: u64) -> Context {
    let mut fresh = [0; 16];
    fresh[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Context { now: Instant::ZERO, wall: Timestamp(0), fresh }
}

fn join(member_id: Arc<str>) -> Request {
    let protocol = |name: &str| Protocol { name: name.to_owned(), metadata: Bytes::from_static(&[0; 64]) };
    Request::Join(Join {
        group: "g".into(),
        member_id,
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_mins(1),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range"), protocol("cooperative-sticky")],
        reason: None,
        takes_member_id: true,
        skips_assignment: true,
    })
}

/// Everybody comes for an id, and with it: the group gathers them.
fn gather(members: u64) -> Groups {
    let mut groups = Groups::new(Settings::default());
    for number in 0..members {
        let turn = groups.handle(&context(number), Token(number + 1), join("".into()));
        let Reply::Join(asked) = turn.replies.into_iter().next().unwrap().1 else {
            unreachable!("a join is answered as one")
        };
        black_box(groups.handle(&context(number), Token(number + 1), join(asked.member_id)));
    }
    groups
}

fn joins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join one group");
    group.sample_size(10);
    for members in [1000, 4000] {
        group.throughput(Throughput::Elements(members));
        group.bench_with_input(BenchmarkId::from_parameter(members), &members, |bencher, members| {
            bencher.iter(|| gather(*members));
        });
    }
    group.finish();
}

criterion_group!(benches, joins);
criterion_main!(benches);
