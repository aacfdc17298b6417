//! Running a few futures at once on one task.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// Runs all futures, at most `limit` at a time, and gives their outputs in the order of the futures.
pub(crate) async fn join_bounded<F: Future>(limit: usize, futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut outputs = Vec::new();
    poll_fn(|context| {
        loop {
            let mut index = 0;
            let before = outputs.len();
            while index < running.len() {
                let (number, future) = &mut running[index];
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => {
                        outputs.push((*number, output));
                        drop(running.swap_remove(index));
                    }
                    Poll::Pending => index += 1,
                }
            }
            let room = limit.max(1) - running.len();
            let started = waiting.by_ref().take(room).map(|(number, future)| (number, Box::pin(future)));
            let known = running.len();
            running.extend(started);
            if running.is_empty() {
                return Poll::Ready(());
            }
            // What was started has to be polled once; what ended has made room.
            if running.len() == known && outputs.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    outputs.sort_unstable_by_key(|(number, _)| *number);
    outputs.into_iter().map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use core::{
        cell::Cell,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn all_run_and_never_more_than_the_limit() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let jobs = (0..20).map(|number: usize| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(running.get().max(most.get()));
                // Some are ready at once, the others wait for several polls.
                for _ in 0..number % 4 {
                    quipu_env::yield_now().await;
                }
                running.set(running.get() - 1);
                number
            }
        });
        let mut all = pin!(join_bounded(3, jobs));
        let mut context = Context::from_waker(Waker::noop());
        let outputs = loop {
            if let Poll::Ready(outputs) = all.as_mut().poll(&mut context) {
                break outputs;
            }
        };
        assert_eq!(outputs, (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
