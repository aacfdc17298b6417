//! What the coordinator's replies come to.

use quipu_env::Instant;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{join_group::JoinGroupResponse, sync_group::SyncGroupResponse},
};

use super::{
    super::{
        Assignor, GroupError,
        assign::Candidate,
        ledger::{Verdict, is_elsewhere},
        wire::{self, Subscription},
    },
    Classic, Phase,
};
use crate::ClientError;

impl Classic {
    /// The coordinator's reply to what was asked last.
    pub(crate) fn handle_reply(&mut self, now: Instant, response: Response) -> Verdict {
        self.is_asking = false;
        match response {
            Response::JoinGroup(response) => self.handle_joined(now, response),
            Response::SyncGroup(response) => self.handle_synced(now, &response),
            Response::Heartbeat(response) => self.handle_code(now, response.error_code, "heartbeat"),
            other => unreachable!("a {} reply to another request", other.api()),
        }
    }

    fn handle_joined(&mut self, now: Instant, response: JoinGroupResponse) -> Verdict {
        if ErrorCode::from_code(response.error_code) == Some(ErrorCode::MemberIdRequired) {
            self.member_id = response.member_id;
            self.next_at = now;
            return Verdict::Fine;
        }
        if response.error_code != ErrorCode::None.code() {
            return self.handle_code(now, response.error_code, "join");
        }
        self.failures = 0;
        self.next_at = now;
        self.rejoin = None;
        self.shared_out = None;
        self.generation = response.generation_id;
        self.member_id = response.member_id;
        let protocol = response.protocol_name.unwrap_or(Str::EMPTY);
        let assignor = Assignor::by_name(&protocol);
        self.phase = match assignor.filter(|_| response.leader == self.member_id) {
            Some(assignor) => {
                let members = response.members.into_iter().filter_map(|member| {
                    let subscription = Subscription::decode(&member.metadata)?;
                    let instance_id = member.group_instance_id.map(|id| id.to_string());
                    Some(Candidate { id: member.member_id.to_string(), instance_id, subscription })
                });
                Phase::Leading { members: members.collect(), assignor, is_skipped: response.skip_assignment }
            }
            None => Phase::Syncing { assignments: Vec::new(), protocol },
        };
        Verdict::Fine
    }

    fn handle_synced(&mut self, now: Instant, response: &SyncGroupResponse) -> Verdict {
        if response.error_code != ErrorCode::None.code() {
            return self.handle_code(now, response.error_code, "sync");
        }
        let Some(target) = wire::decode_assignment(&response.assignment) else {
            let message = Some("the group's leader sent an assignment that is none of the consumer protocol");
            let what = format!("join group {}", self.config.group);
            let code = ErrorCode::InconsistentGroupProtocol.code();
            return self.become_failed(GroupError::Client(ClientError::refused(what, code, message)));
        };
        self.failures = 0;
        self.phase = Phase::Member;
        self.next_at = now + self.config.heartbeat_interval;
        if self.ledger.move_to(target) && self.is_cooperative() {
            // What was given up goes to others in the next round.
            self.rejoin = Some("partitions were given up");
        }
        Verdict::Fine
    }

    /// An error, or the good end of a sign of life.
    fn handle_code(&mut self, now: Instant, code: i16, what: &str) -> Verdict {
        let known = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        match known {
            ErrorCode::None => {
                self.failures = 0;
                self.next_at = now + self.config.heartbeat_interval;
                Verdict::Fine
            }
            ErrorCode::RebalanceInProgress => {
                self.rejoin.get_or_insert("the group rebalances");
                match self.phase {
                    // The generation is over before it was handed out.
                    Phase::Syncing { .. } => self.phase = Phase::Member,
                    Phase::Joining => self.pause(now),
                    _ => {}
                }
                if matches!(self.phase, Phase::Member) {
                    // If the application has to give up something first, signs of life go on.
                    let may_join = self.may_join();
                    self.next_at = if may_join { now } else { now + self.config.heartbeat_interval };
                }
                Verdict::Fine
            }
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.become_new(known == ErrorCode::UnknownMemberId);
                self.become_joining(now);
                Verdict::Fine
            }
            ErrorCode::FencedInstanceId => {
                let (group, instance_id) = (self.config.group.clone(), self.config.instance_id.clone());
                let instance_id = instance_id.unwrap_or_default();
                self.become_failed(GroupError::Fenced { group, instance_id, code: known })
            }
            _ if is_elsewhere(known) => {
                self.pause(now);
                Verdict::Elsewhere
            }
            _ if known.is_retriable() => {
                self.pause(now);
                Verdict::Fine
            }
            _ => {
                let what = format!("{what}: group {}", self.config.group);
                self.become_failed(GroupError::Client(ClientError::refused(what, code, None)))
            }
        }
    }

    /// No reply came.
    pub(crate) fn handle_trouble(&mut self, now: Instant, error: &ClientError) -> Verdict {
        self.is_asking = false;
        if error.is_retriable() {
            self.pause(now);
            return Verdict::Elsewhere;
        }
        self.become_failed(GroupError::Client(error.clone()))
    }
}
