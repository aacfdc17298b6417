//! One suite for every [`Env`]: what the kernel does is what the simulation must do, or the simulation proves nothing.
//!
//! A world implements [`World`] and runs [`tests`], or lets [`conformance_tests!`] make a `#[test]` of each. The list
//! stands once, at the end of this file; a test that only one world could pass does not belong in it.
//!
//! Invariants
//! - A test touches nothing but its world, so the simulator's runs of it replay from their seed.
//! - Waiting is for events. Where a test must show that something does *not* happen, it looks for a while by the world's own
//!   clock, and no delay can make it fail.
//! - Every test ends: after [`TIME_MAX`] it fails.
//!
//! Not here: what survives a crash (the simulator's own tests), faults other than those a world can bring about through
//! [`World`], speed.

mod clock;
mod disk;
mod durability;
mod files;
mod names;
mod net;
mod pressure;
mod sending;
mod support;
mod tasks;

use std::{
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    time::Duration,
};

use quipu_env::Env;

/// Longest that a test may take, by its world's clock.
pub const TIME_MAX: Duration = Duration::from_secs(120);

/// A world, made anew for one test.
pub trait World: Clone + Send + Sync + 'static {
    /// What is tested.
    type Env: Env;

    /// What is tested.
    fn env(&self) -> &Self::Env;

    /// A directory that exists, is empty and belongs to this test.
    fn directory(&self) -> &Path;

    /// Where this test listens and connects to.
    fn host(&self) -> IpAddr;

    /// An address that answers no attempt to connect, neither with a yes nor with a no, as long as this world lives. None if
    /// this world has no such thing; the test of time-outs then proves nothing here.
    fn silent_address(&self) -> impl Future<Output = Option<SocketAddr>> + Send;

    /// Makes the next sync of the file fail. False if this world can't; the test of failed syncs then proves nothing here.
    fn fail_next_sync(&self, file: &Path) -> bool;
}

/// A test on its way. It panics if the world is not as it must be.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One test.
pub struct Test<W> {
    /// Its module and name, `module::name`.
    pub name: &'static str,
    start: fn(W) -> Running,
}

impl<W: World> Test<W> {
    /// Runs it. To be polled on a shard of `world`; panics with a message if the world fails it.
    pub async fn run(self, world: W) {
        let done = support::within(&world, TIME_MAX, (self.start)(world.clone())).await;
        assert!(done.is_some(), "{} is still waiting after {TIME_MAX:?}", self.name);
    }
}

impl<W> fmt::Debug for Test<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The test of that name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn find<W: World>(name: &str) -> Test<W> {
    tests().into_iter().find(|test| test.name == name).unwrap_or_else(|| panic!("no conformance test is called {name}"))
}

macro_rules! suite {
    ($d:tt $($module:ident: $($name:ident)+;)+) => {
        /// All of them, in a fixed order.
        #[must_use]
        pub fn tests<W: World>() -> Vec<Test<W>> {
            vec![$($(Test {
                name: concat!(stringify!($module), "::", stringify!($name)),
                start: |world| Box::pin($module::$name(world)),
            },)+)+]
        }

        /// Makes one `#[test]` of each. The argument is the absolute path of a function that takes a test's name, makes a
        /// world and runs [`find`]`(name)` in it: `conformance_tests!(crate::run)`.
        #[macro_export]
        macro_rules! conformance_tests {
            ($d run:path) => {
                $(mod $module {$(
                    #[test]
                    fn $name() {
                        $d run(concat!(stringify!($module), "::", stringify!($name)));
                    }
                )+})+
            };
        }
    };
}

suite! { $
    clock:
        now_never_goes_back
        wall_time_is_after_the_epoch
        a_sleep_never_ends_early
        sleeps_end_in_order_of_their_deadlines
        a_deadline_in_the_past_ends_at_once
        a_sleep_can_be_set_earlier
        a_sleep_can_be_set_later
        a_sleep_can_be_set_after_its_end
        a_sleep_can_be_set_before_it_is_polled
        a_sleep_without_end_can_be_set;
    tasks:
        a_task_runs_and_is_joined
        an_aborted_task_is_dropped_and_joined
        aborting_an_ended_task_does_nothing
        a_task_outlives_its_handle
        tasks_run_on_their_shard
        a_task_spawns_tasks_on_other_shards
        a_task_that_yields_lets_others_run
        streams_of_numbers_differ
        numbers_are_drawn_evenly
        offloaded_work_gives_its_value
        offloaded_work_runs_once_each;
    net:
        what_is_written_is_read
        a_finished_writer_leaves_the_other_way_open
        a_finished_writer_takes_no_more
        dropping_one_half_leaves_the_other
        dropping_both_halves_closes
        a_closed_peer_is_noticed_by_the_writer
        a_reset_is_seen_by_the_peer
        a_reset_ends_both_own_halves
        nobody_listening_is_refused
        no_answer_times_out
        port_zero_picks_a_free_port
        an_address_in_use_is_refused
        a_port_can_be_bound_again_at_once
        a_connection_is_made_before_it_is_accepted
        a_connection_outlives_its_listener
        an_accept_given_up_loses_no_connection
        many_connections_at_once
        halves_work_on_other_shards
        addresses_resolve_to_themselves;
    pressure:
        a_writer_waits_for_its_reader
        a_stalled_connection_delays_no_other
        writes_take_what_they_say
        a_read_given_up_takes_nothing
        a_write_given_up_sent_what_left_the_queue
        a_read_fills_spare_capacity_only
        a_read_makes_room_where_there_is_none
        an_empty_queue_is_written_at_once;
    sending:
        a_file_range_arrives_byte_for_byte
        files_and_memory_arrive_in_order
        unsynced_bytes_are_sent
        a_range_beyond_the_end_is_an_error
        a_file_removed_meanwhile_is_sent;
    files:
        a_missing_file_is_not_found
        an_exclusive_file_is_new
        opening_keeps_or_cuts_as_asked
        a_read_only_file_takes_no_writes
        reads_end_at_the_end
        a_gap_reads_as_zeros
        many_chunks_are_one_write
        an_empty_write_changes_nothing
        the_length_can_be_set
        handles_share_one_file
        concurrent_writes_keep_to_their_ranges
        a_write_given_up_harms_no_other
        forgetting_the_cache_changes_nothing;
    names:
        a_rename_replaces
        a_rename_of_nothing_is_not_found
        a_directory_can_be_renamed
        a_removed_file_lives_while_open
        only_empty_directories_are_removed
        directories_are_made_with_their_parents
        names_are_listed_in_order
        files_tell_their_size;
    disk:
        aligned_files_read_what_was_written
        a_misaligned_access_is_refused
        an_aligned_read_ends_at_the_end
        aligned_and_plain_handles_agree
        a_lock_is_held_once
        a_lock_ends_with_its_holder
        a_lock_needs_its_directory
        space_is_told;
    durability:
        written_and_synced_in_one_step
        syncing_names
        syncing_a_missing_directory_fails
        a_failed_sync_is_told;
}
