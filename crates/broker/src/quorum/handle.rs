//! How the rest of the node talks to the metadata quorum's task.

use core::fmt;

use quipu_base::BrokerId;
use quipu_controller::{AnyReply, AnyRequest, ControllerError, Forward, ForwardError, UncleanElection};
use quipu_metadata::Image;
use quipu_raft::Status;
use quipu_storage::StoreFull;
use tokio::sync::{mpsc, oneshot};

use super::reports::Wanted;

/// Requests that may wait for the task.
pub(super) const COMMANDS_MAX: usize = 1024;

/// Why records did not become part of the metadata log, or nobody knows whether they did.
#[derive(Clone, Debug)]
pub(crate) enum CommitError {
    /// There is no room.
    Full(StoreFull),
    /// One decision has more records than a batch can have.
    TooLarge,
    /// The broker is stopping.
    Stopping,
    /// No controller was active in time. The request was not carried out.
    NoController {
        /// Who leads the quorum, if that is known.
        leader: Option<BrokerId>,
    },
    /// The controller was lost before it answered: the request may have been carried out, or not.
    Unknown,
    /// The request, or its answer, can't be passed on.
    Forward(ForwardError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(error) => error.fmt(f),
            Self::TooLarge => f.write_str("the request changes too much at once: split it"),
            Self::Stopping => f.write_str("the broker is stopping"),
            Self::NoController { leader: Some(leader) } => {
                write!(f, "the metadata quorum's leader, node {leader}, does not answer: try again soon")
            }
            Self::NoController { leader: None } => {
                f.write_str("the metadata quorum has no leader: a majority of its voters must be up")
            }
            Self::Unknown => {
                f.write_str("the controller was lost before it answered: look whether the request was done")
            }
            Self::Forward(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CommitError {}

/// Why a request to the controller failed.
#[derive(Clone, Debug)]
pub(crate) enum AskError {
    /// It was declined.
    Declined(ControllerError),
    /// It was not carried out, or that is unknown.
    Commit(CommitError),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AskError {}

/// What becomes of a request.
pub(super) type Outcome = Result<AnyReply, AskError>;

/// What the task can be asked.
pub(super) enum Command {
    /// Have it decided, here or by the active controller.
    Ask { request: AnyRequest, reply: oneshot::Sender<Outcome> },
    /// Read behind a barrier.
    Read(oneshot::Sender<Result<Image, CommitError>>),
    /// What the quorum is doing.
    Status(oneshot::Sender<Status>),
    /// Another voter is to lead, if this node leads.
    Resign,
    /// What replicas hold.
    Reports { wanted: Vec<Wanted>, reply: oneshot::Sender<Vec<UncleanElection>> },
}

/// Asks the active controller, wherever it is.
#[derive(Clone)]
pub(crate) struct ControllerHandle(pub(super) mpsc::Sender<Command>);

const STOPPING: CommitError = CommitError::Stopping;

impl ControllerHandle {
    /// Has `request` decided and, if it changes anything, committed, and applied on this node.
    pub(crate) async fn ask<R: Forward>(&self, request: R) -> Result<R::Reply, AskError> {
        let (reply, answer) = oneshot::channel();
        let stopping = || AskError::Commit(STOPPING);
        let command = Command::Ask { request: request.into(), reply };
        self.0.send(command).await.map_err(|_| stopping())?;
        let reply = answer.await.unwrap_or_else(|_| Err(stopping()))?;
        R::reply_of(reply).ok_or(AskError::Commit(CommitError::Forward(ForwardError::Malformed)))
    }

    /// The image with everything that was committed when this was called.
    ///
    /// Errors: `NoController`, `Stopping`.
    pub(crate) async fn read(&self) -> Result<Image, AskError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Read(reply)).await.map_err(|_| AskError::Commit(STOPPING))?;
        answer.await.unwrap_or(Err(STOPPING)).map_err(AskError::Commit)
    }

    /// Asks that another voter leads the quorum, if this node leads it. When that has happened the status tells.
    ///
    /// Errors: `Stopping`.
    pub(crate) async fn resign(&self) -> Result<(), CommitError> {
        self.0.send(Command::Resign).await.map_err(|_| STOPPING)
    }

    /// What these replicas hold, of those whose brokers answer in time.
    ///
    /// Errors: `Stopping`.
    pub(crate) async fn reports(&self, wanted: Vec<Wanted>) -> Result<Vec<UncleanElection>, AskError> {
        let (reply, answer) = oneshot::channel();
        let stopping = || AskError::Commit(STOPPING);
        self.0.send(Command::Reports { wanted, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// What the metadata quorum is doing, as this node sees it.
    ///
    /// Errors: `Stopping`.
    pub(crate) async fn status(&self) -> Result<Status, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Status(reply)).await.map_err(|_| STOPPING)?;
        answer.await.map_err(|_| STOPPING)
    }
}
