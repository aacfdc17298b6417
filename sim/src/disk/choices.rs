//! Who decides what a power cut leaves: chance, a fixed rule, or a test that tries every possibility.
//!
//! Every decision is a number below a count. The highest is always the best for the writer: everything survives.

use quipu_env::Rng;
use rand::RngExt;

/// What is being decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Which of a sector's versions since the last sync is on the device.
    Sector,
    /// Where inside a sector that did not get its newest version the write stopped.
    Tear,
    /// Which of a file's lengths since the last sync is on the device.
    Length,
    /// Whether a part of a file that was extended but not written holds old bytes of the device (0) or zeros (1).
    Tail,
    /// Whether a creation, rename or removal is on the device.
    Name,
    /// Whether the page cache has dropped what a failed sync left in it (0) or still shows it (1).
    Cache,
}

/// Decides. See the module.
pub trait Choices {
    /// A number below `count`, which is at least 2.
    fn choose(&mut self, what: Choice, count: u64) -> u64;

    /// A byte of garbage.
    fn garbage(&mut self) -> u8;
}

/// Passes choices on, and counts what they cost.
pub(crate) struct Counted<'a> {
    inner: &'a mut dyn Choices,
    losses: [u64; 5],
}

impl<'a> Counted<'a> {
    pub(crate) const fn new(inner: &'a mut dyn Choices) -> Self {
        Self { inner, losses: [0; 5] }
    }

    /// What was lost, by name, and how often.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = ["lost-sector", "torn-sector", "lost-length", "garbage-tail", "lost-name"];
        names.into_iter().zip(self.losses)
    }
}

impl Choices for Counted<'_> {
    fn choose(&mut self, what: Choice, count: u64) -> u64 {
        let chosen = self.inner.choose(what, count);
        let is_best = chosen + 1 == count;
        match what {
            Choice::Sector => self.losses[0] += u64::from(!is_best),
            Choice::Tear => self.losses[1] += u64::from(!is_best),
            Choice::Length => self.losses[2] += u64::from(!is_best),
            Choice::Tail => self.losses[3] += u64::from(!is_best),
            Choice::Name => self.losses[4] += u64::from(!is_best),
            Choice::Cache => {}
        }
        chosen
    }

    fn garbage(&mut self) -> u8 {
        self.inner.garbage()
    }
}

/// Nothing that was not synced survives.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoseAll;

impl Choices for LoseAll {
    fn choose(&mut self, what: Choice, count: u64) -> u64 {
        if matches!(what, Choice::Tail | Choice::Tear) { count - 1 } else { 0 }
    }

    fn garbage(&mut self) -> u8 {
        0xa5
    }
}

/// Everything survives, as if it had been synced.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl Choices for KeepAll {
    fn choose(&mut self, _what: Choice, count: u64) -> u64 {
        count - 1
    }

    fn garbage(&mut self) -> u8 {
        0xa5
    }
}

/// Chance, with a mood: fair coins alone would practically never keep, or lose, the whole of a large write, so each instance
/// first draws how likely data and names are to survive, and how many sectors share their fate: of two writes under way one may
/// be there whole, and the other not at all.
#[derive(Debug)]
pub struct RandomChoices {
    rng: Rng,
    newest_percent: u64,
    oldest_percent: u64,
    names_percent: u64,
    /// Sectors that share one draw.
    run: u64,
    /// How many still share it.
    left: u64,
    draw: u64,
}

impl RandomChoices {
    /// Draws the mood from `rng`, and later every choice.
    #[must_use]
    pub fn new(mut rng: Rng) -> Self {
        const MOODS: [(u64, u64); 8] = [(0, 100), (100, 0), (0, 0), (90, 5), (5, 90), (50, 50), (50, 50), (25, 75)];
        let (newest_percent, oldest_percent) = MOODS[rng.random_range(0..MOODS.len())];
        let names_percent = [0, 10, 50, 90, 100][rng.random_range(0..5)];
        let run = [1, 1, 8, 16][rng.random_range(0..4)];
        Self { rng, newest_percent, oldest_percent, names_percent, run, left: 0, draw: 0 }
    }

    fn skewed(&mut self, count: u64) -> u64 {
        if self.left == 0 {
            self.draw = self.rng.random_range(0..100);
            self.left = self.run;
        }
        self.left -= 1;
        let draw = self.draw;
        if draw < self.newest_percent {
            count - 1
        } else if draw < self.newest_percent + self.oldest_percent {
            0
        } else {
            self.rng.random_range(0..count)
        }
    }
}

impl Choices for RandomChoices {
    fn choose(&mut self, what: Choice, count: u64) -> u64 {
        match what {
            Choice::Sector | Choice::Length => self.skewed(count),
            Choice::Name => u64::from(self.rng.random_range(0..100) < self.names_percent),
            Choice::Tear => {
                // Most sectors are not torn: the last number means "cut nowhere".
                if self.rng.random_range(0..4) == 0 { self.rng.random_range(0..count) } else { count - 1 }
            }
            Choice::Tail | Choice::Cache => self.rng.random_range(0..count),
        }
    }

    fn garbage(&mut self) -> u8 {
        self.rng.random()
    }
}

/// Chance by the page: each is as it was synced or as it was written last, and each name and length as well.
#[derive(Debug)]
pub struct PageChoices {
    rng: Rng,
    /// Sectors of the page that are still to be asked for.
    left: u64,
    keeps: bool,
}

/// Sectors of a page.
const PAGE_SECTORS: u64 = (super::BLOCK_BYTES / super::SECTOR_BYTES) as u64;

impl PageChoices {
    /// Draws every choice from `rng`.
    #[must_use]
    pub const fn new(rng: Rng) -> Self {
        Self { rng, left: 0, keeps: true }
    }
}

impl Choices for PageChoices {
    fn choose(&mut self, what: Choice, count: u64) -> u64 {
        let keeps = match what {
            Choice::Sector => {
                if self.left == 0 {
                    (self.left, self.keeps) = (PAGE_SECTORS, self.rng.random());
                }
                self.left -= 1;
                self.keeps
            }
            Choice::Length | Choice::Name => self.rng.random(),
            Choice::Tear => true,
            Choice::Tail | Choice::Cache => return self.rng.random_range(0..count),
        };
        if keeps { count - 1 } else { 0 }
    }

    fn garbage(&mut self) -> u8 {
        self.rng.random()
    }
}

/// Tries every sequence of choices, one after the other, for scenarios that are small enough.
///
/// ```
/// # use quipu_sim::disk::{Choice, Choices, Exhaustive};
/// let mut all = Exhaustive::new();
/// let mut seen = Vec::new();
/// while let Some(mut choices) = all.next_run() {
///     seen.push((choices.choose(Choice::Name, 2), choices.choose(Choice::Length, 3)));
/// }
/// assert_eq!(seen.len(), 6);
/// ```
#[derive(Debug, Default)]
pub struct Exhaustive {
    /// The choices of the run under way: (chosen, count).
    path: Vec<(u64, u64)>,
    started: bool,
}

impl Exhaustive {
    /// At the first sequence.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next sequence, `None` after the last. The run must be repeatable: the same choices lead to the same questions.
    pub fn next_run(&mut self) -> Option<ExhaustiveRun<'_>> {
        if self.started {
            while let Some((chosen, count)) = self.path.pop() {
                if chosen + 1 < count {
                    self.path.push((chosen + 1, count));
                    break;
                }
            }
            if self.path.is_empty() {
                return None;
            }
        }
        self.started = true;
        Some(ExhaustiveRun { path: &mut self.path, next: 0 })
    }
}

/// One sequence of [`Exhaustive`].
#[derive(Debug)]
pub struct ExhaustiveRun<'a> {
    path: &'a mut Vec<(u64, u64)>,
    next: usize,
}

impl Choices for ExhaustiveRun<'_> {
    fn choose(&mut self, _what: Choice, count: u64) -> u64 {
        if self.next == self.path.len() {
            self.path.push((0, count));
        }
        let (chosen, known) = self.path[self.next];
        assert_eq!(known, count, "the run asked another question than last time");
        self.next += 1;
        chosen
    }

    fn garbage(&mut self) -> u8 {
        0xa5
    }
}
