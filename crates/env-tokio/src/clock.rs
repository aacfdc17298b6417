//! Time from the system's clocks, timers from tokio.
//!
//! Invariants
//! - All clocks of a process share one zero, taken when the first is made, so that instants of different environments compare.
//! - A timer never ends early. It ends up to 1 ms late: that is the granularity of tokio's timer wheel and of `epoll_wait`.
//! - A timer belongs to the shard that first polls it, not to the thread that makes it.
//!
//! Not here: anything finer than a millisecond. Whoever needs that must be woken by an event instead.

use std::{
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant, SystemTime},
};

use pin_project_lite::pin_project;
use quipu_base::Timestamp;
use quipu_env::{Clock, Instant, Sleep};

/// What [`Instant::ZERO`] stands for.
static ORIGIN: LazyLock<StdInstant> = LazyLock::new(StdInstant::now);

/// Deadlines further away than this are moved here: tokio's timers refuse more.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock(());

impl TokioClock {
    pub(crate) fn new() -> Self {
        LazyLock::force(&ORIGIN);
        Self(())
    }
}

impl Clock for TokioClock {
    type Sleep = TokioSleep;

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, deadline: Instant) -> TokioSleep {
        TokioSleep { deadline, timer: None }
    }
}

pin_project! {
    /// A timer on the runtime that first polls it.
    #[must_use = "a timer does nothing unless awaited"]
    pub struct TokioSleep {
        deadline: Instant,
        #[pin]
        timer: Option<tokio::time::Sleep>,
    }
}

impl Future for TokioSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            if this.timer.is_none() {
                this.timer.set(Some(tokio::time::sleep_until(tokio_instant(*this.deadline))));
            }
            ready!(this.timer.as_mut().as_pin_mut().expect("set above").poll(context));
            // The wheel's deadline is nearer than the one asked for only if that was beyond FAR.
            if TokioClock(()).now() >= *this.deadline {
                return Poll::Ready(());
            }
            this.timer.set(None);
        }
    }
}

impl Sleep for TokioSleep {
    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let this = self.project();
        *this.deadline = deadline;
        if let Some(timer) = this.timer.as_pin_mut() {
            timer.reset(tokio_instant(deadline));
        }
    }
}

/// The same point on tokio's clock, no further away than [`FAR`].
fn tokio_instant(deadline: Instant) -> tokio::time::Instant {
    let now = ORIGIN.elapsed();
    let from_zero = Duration::from_nanos(deadline.as_nanos()).min(now + FAR);
    tokio::time::Instant::from_std(*ORIGIN + from_zero)
}
