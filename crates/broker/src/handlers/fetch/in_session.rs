//! Fetches in a session (KIP-227): the first asks for everything, the others name what changed on the client's side and are
//! answered with what changed on ours.
//!
//! Invariants
//! - A request costs what has changed, in bytes and in time, not what the session has.
//! - A session that cannot go on costs an error that tells its client to fetch everything again, never records.
//!
//! Read [`crate::fetch_sessions::session`] for what has to be looked at.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::TopicId;
use quipu_env::{Clock, Env, Probe};
use quipu_protocol::{
    ErrorCode, Str,
    messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData},
};

use super::{Fetch, Look};
use crate::fetch_sessions::session::{Session, TopicKey};

/// What there is to tell, each under its partition's number in the session.
type News = Vec<(u32, PartitionData)>;

impl<E: Env> Fetch<E> {
    /// Answers with everything, and begins a session if there is room for one.
    pub(super) async fn begin_session(&self) -> Look<E> {
        drop(self.keeper.take(self.request.session_id));
        let mut look = self.run().await;
        let mut session = None;
        let size = self.request.topics.iter().map(|topic| topic.partitions.len()).sum();
        if size > 0 {
            let make = || self.new_session(&look.response);
            session = self.node.fetch_sessions.create(self.node.env.clock().now(), size, &self.keeper, make);
        }
        if session.is_none() {
            self.node.env.probe().sometimes("broker.fetch.no-room-for-a-session");
        }
        look.response.session_id = session.unwrap_or(0);
        look
    }

    fn new_session(&self, response: &FetchResponse) -> Option<Session<E>> {
        let mut session = Session::new(self.by_id);
        if !session.add(&self.request.topics) {
            return None;
        }
        for topic in &response.responses {
            session.note_told(topic.topic_id, &topic.topic, &topic.partitions);
        }
        Some(session)
    }

    /// Answers with what changed.
    pub(super) async fn go_on(&self) -> Look<E> {
        let now = || self.node.env.clock().now();
        let sessions = &self.node.fetch_sessions;
        let Some(mut held) = self.keeper.take(self.request.session_id) else {
            return refused(ErrorCode::FetchSessionIdNotFound);
        };
        if let Err(code) = held.session.begin(self.request.session_epoch, self.by_id) {
            let size = held.session.size();
            sessions.keep(now(), size, &self.keeper, held);
            return refused(code);
        }
        let is_bounded = held.session.add(&self.request.topics);
        held.session.forget(&self.request.forgotten_topics_data);
        let size = held.session.size();
        if size == 0 {
            // As in Kafka, a session without partitions is over.
            return Look::new(FetchResponse::default());
        }
        if !is_bounded || !sessions.touch(now(), size, &held) {
            self.node.env.probe().sometimes("broker.fetch.session-gone");
            return refused(ErrorCode::FetchSessionIdNotFound);
        }
        let mut look = self.news_of(&mut held.session).await;
        look.response.session_id = held.id;
        // One that was evicted meanwhile is answered all the same; its client learns of it from the next answer.
        sessions.keep(now(), size, &self.keeper, held);
        look
    }

    /// Waits for enough to tell, or until the time is up.
    async fn news_of(&self, session: &mut Session<E>) -> Look<E> {
        let clock = self.node.env.clock();
        let deadline = clock.now() + self.wait();
        let changes = Arc::clone(session.changes());
        let mut timer = Box::pin(clock.sleep_until(deadline));
        loop {
            let (look, news) = self.look_for_news(session).await;
            let is_enough = look.urgent || look.bytes >= self.bytes_min();
            if is_enough || clock.now() >= deadline || self.node.stopping.is_reached() {
                return tell(session, look, news);
            }
            drop(look);
            self.node.env.probe().sometimes("broker.fetch.parked-in-session");
            tokio::select! { biased;
                () = changes.notify.notified() => {}
                () = self.node.stopping.reached() => {}
                () = timer.as_mut() => {}
            }
        }
    }

    async fn look_for_news(&self, session: &mut Session<E>) -> (Look<E>, News) {
        session.take_changes();
        let mut look = Look::new(FetchResponse::default());
        let mut news = News::new();
        for candidate in session.candidates(&self.node.view()) {
            let data = self.look_at(&mut look, &candidate.wanted, candidate.partition).await;
            if session.is_news(candidate.number, &data) {
                news.push((candidate.number, data));
            }
        }
        (look, news)
    }
}

fn refused<E: Env>(code: ErrorCode) -> Look<E> {
    Look::new(FetchResponse { error_code: code.code(), ..Default::default() })
}

fn tell<E: Env>(session: &mut Session<E>, mut look: Look<E>, news: News) -> Look<E> {
    let responses = &mut look.response.responses;
    let mut places = BTreeMap::new();
    for (number, data) in news {
        session.tell(number, &data);
        let topic = session.topic(number);
        let place = *places.entry(topic.clone()).or_insert_with(|| {
            let (topic_id, topic) = match topic {
                TopicKey::Id(id) => (*id, Str::EMPTY),
                TopicKey::Name(name) => (TopicId::ZERO, Str::from(&**name)),
            };
            responses.push(FetchableTopicResponse { topic, topic_id, partitions: Vec::new() });
            responses.len() - 1
        });
        responses[place].partitions.push(data);
    }
    look
}
