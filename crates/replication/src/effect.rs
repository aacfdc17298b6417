//! What comes out of a replica, for the shell to carry out in order.

use core::ops::Range;

use quipu_base::{BrokerId, LeaderEpoch, Offset};

use crate::{
    epochs::EpochTable,
    event::RequestId,
    message::Message,
    partition::{Configuration, ConfigurationVersion, Member},
    refusal::{Refusal, RequestError},
};

/// Numbers the steps of one replica since its start, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// Where the records of a step come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The client's request in hand.
    Request,
    /// The message in hand; its records below the range are left out.
    Message,
}

/// One durable step: all of it survives a crash, or nothing. Steps become durable in the order of their ids. Within a step the fields
/// take effect in the order in which they stand here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Write {
    /// Its number.
    pub id: WriteId,
    /// Everything goes: records, epochs; the log begins and ends here.
    pub begin_anew: Option<Offset>,
    /// The log ends here.
    pub truncate: Option<Offset>,
    /// Records to append at the log's end.
    pub append: Option<(Source, Range<Offset>)>,
    /// Records of the message in hand to put in the place of damaged ones.
    pub repair: Option<Range<Offset>>,
    /// The epochs of the records appended.
    pub epochs: EpochTable,
    /// The log begins here.
    pub log_start: Option<Offset>,
    /// The promised epoch.
    pub promise: Option<LeaderEpoch>,
    /// The label.
    pub label: Option<LeaderEpoch>,
    /// The faulty mark is set or taken away.
    pub faulty: Option<bool>,
    /// The high watermark at this moment: within the log as the step leaves it.
    pub high_watermark: Offset,
}

/// Why a leader gives up its epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GiveUp {
    /// It is faulty, or promised the epoch before.
    CannotLead,
    /// It did not get its seal quorum, or not the log, in time.
    NotActive,
    /// It could not commit for too long.
    CannotCommit,
    /// Its disk refused a write.
    WriteFailed,
    /// No member that answered has the log that the others know to be committed.
    CommittedRecordsMissing,
    /// It is being removed.
    Removed,
}

/// What is asked of the controller. Each may be asked more than once, word for word.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// Make this the configuration, if leader epoch and version are still these.
    Change {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// The version in force.
        version: ConfigurationVersion,
        /// What is wanted.
        configuration: Configuration,
    },
    /// Elect a leader anew, if the leader epoch is still this.
    GiveUp {
        /// The epoch given up.
        epoch: LeaderEpoch,
        /// Why.
        reason: GiveUp,
    },
    /// Elect this member instead, if the leader epoch is still this: it has the log, and copying takes long. An answer that leaves
    /// the leader epoch as it is makes the candidate copy.
    Prefer {
        /// The candidate's epoch.
        epoch: LeaderEpoch,
        /// The best reporter.
        reporter: Member,
    },
}

/// What became of a client's request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// Its records begin here and are kept as `acks` wants.
    Produced {
        /// Offset of the first record.
        base_offset: Offset,
    },
    /// The log start that Q members have made durable.
    Deleted {
        /// The leader's log start.
        log_start: Offset,
    },
    /// It was not done, or it isn't known whether it will be.
    Failed(RequestError),
}

/// Something for the shell to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Make a step durable, and say so.
    Write(Write),
    /// Send to the replica on this node, with the bytes that belong to the message.
    Send {
        /// To whom.
        to: BrokerId,
        /// What.
        message: Message,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        id: RequestId,
        /// What.
        reply: Reply,
    },
    /// Committed records end here now: consumers may read up to it.
    HighWatermark(Offset),
    /// This replica leads; records are accepted.
    Activated {
        /// Its epoch.
        epoch: LeaderEpoch,
        /// Where the epoch begins.
        epoch_start: Offset,
    },
    /// This replica led, or was about to, and does not any more.
    SteppedDown {
        /// The epoch that it led.
        epoch: LeaderEpoch,
    },
    /// Ask the controller.
    AskController(Ask),
    /// Read the metadata log with a barrier begun now, and answer [`crate::Event::Barrier`].
    ReadBarrier,
    /// The replica does not count until it is repaired from the leader's log. To be reported.
    BecameFaulty,
    /// The replica is sound again.
    BecameSound,
    /// An event was refused and changed nothing. To be logged, and counted.
    Refused(Refusal),
}
