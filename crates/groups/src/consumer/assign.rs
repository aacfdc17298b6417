//! The assignors: who is to read what.
//!
//! | name | what it does |
//! |---|---|
//! | `uniform` | everybody gets as much as everybody else who could have it; what a member has it keeps as far as that allows; among equals a replica in the member's rack decides |
//! | `range` | each topic by itself: neighbouring partitions, in the order of the members |
//!
//! Invariants
//! - Each partition of a topic that somebody wants has one owner, who wants the topic.
//! - `uniform`: no partition can go to another member without the loads differing more than before; if all want the same topics,
//!   loads differ by one at most.
//! - `uniform`: nobody gains a partition while nothing has changed; an order of magnitude of `partitions x log members` steps where
//!   few members differ in what they want.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{PartitionIndex, TopicId};

use super::request::Partitions;

/// Who reads what is decided by one of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Assignor {
    /// Everybody gets as much as everybody else.
    Uniform,
    /// Neighbouring partitions of each topic.
    Range,
}

impl Assignor {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|known| known.name() == name)
    }

    /// A target for each of the members, in order.
    pub(crate) fn assign(self, members: &[Wish], topics: &BTreeMap<TopicId, TopicRacks<'_>>) -> Vec<Partitions> {
        match self {
            Self::Uniform => Uniform::new(members, topics).assign(),
            Self::Range => range(members, topics),
        }
    }
}

/// For each partition, the racks of its replicas.
pub(crate) type TopicRacks<'a> = &'a [BTreeSet<Arc<str>>];

/// A member, and what it wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) topics: BTreeSet<TopicId>,
    /// What it was to read so far.
    pub(crate) before: Partitions,
}

fn index(at: usize) -> PartitionIndex {
    PartitionIndex(i32::try_from(at).unwrap_or(i32::MAX))
}

fn range(members: &[Wish], topics: &BTreeMap<TopicId, TopicRacks<'_>>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Static members first, so that a restart moves nothing.
    order.sort_by_key(|at| {
        let wish = &members[*at];
        (wish.instance_id.is_none(), wish.instance_id.clone(), Arc::clone(&wish.member_id))
    });
    let mut targets = vec![Partitions::new(); members.len()];
    for (topic, racks) in topics {
        let takers: Vec<usize> = order.iter().copied().filter(|at| members[*at].topics.contains(topic)).collect();
        let Some(each) = racks.len().checked_div(takers.len()) else { continue };
        let more = racks.len() % takers.len();
        let mut next = 0;
        for (nth, taker) in takers.into_iter().enumerate() {
            let end = next + each + usize::from(nth < more);
            if end > next {
                targets[taker].insert(*topic, (next..end).map(index).collect());
            }
            next = end;
        }
    }
    targets
}

/// A partition, as a topic's place and its own.
type Piece = (TopicId, usize);

/// Members that want the same topics, so that any of them may have any partition of these.
#[derive(Default)]
struct Class {
    /// By load.
    takers: BTreeSet<(usize, usize)>,
    by_rack: BTreeMap<Arc<str>, BTreeSet<(usize, usize)>>,
}

struct Uniform<'a> {
    members: &'a [Wish],
    topics: &'a BTreeMap<TopicId, TopicRacks<'a>>,
    class_of: BTreeMap<TopicId, usize>,
    classes: Vec<Class>,
    /// Of each member.
    classes_of: Vec<Vec<usize>>,
    loads: Vec<usize>,
    /// Of each member, by class.
    held: Vec<BTreeMap<usize, BTreeSet<Piece>>>,
}

impl<'a> Uniform<'a> {
    fn new(members: &'a [Wish], topics: &'a BTreeMap<TopicId, TopicRacks<'a>>) -> Self {
        let mut uniform = Self {
            members,
            topics,
            class_of: BTreeMap::new(),
            classes: Vec::new(),
            classes_of: vec![Vec::new(); members.len()],
            loads: vec![0; members.len()],
            held: vec![BTreeMap::new(); members.len()],
        };
        let mut takers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (at, member) in members.iter().enumerate() {
            for topic in member.topics.iter().filter(|topic| topics.contains_key(topic)) {
                takers.entry(*topic).or_default().push(at);
            }
        }
        let mut known: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for (topic, takers) in takers {
            let class = *known.entry(takers).or_insert_with_key(|takers| uniform.add_class(takers));
            uniform.class_of.insert(topic, class);
        }
        uniform
    }

    fn add_class(&mut self, takers: &[usize]) -> usize {
        let mut class = Class::default();
        for taker in takers {
            class.takers.insert((0, *taker));
            if let Some(rack) = &self.members[*taker].rack {
                class.by_rack.entry(Arc::clone(rack)).or_default().insert((0, *taker));
            }
            self.classes_of[*taker].push(self.classes.len());
        }
        self.classes.push(class);
        self.classes.len() - 1
    }

    fn assign(mut self) -> Vec<Partitions> {
        let free = self.keep();
        let left: Vec<Piece> = free.into_iter().filter(|piece| !self.give_near(*piece)).collect();
        for piece in left {
            self.give(piece);
        }
        while self.balance() {}
        self.held.into_iter().map(|held| partitions_of(held.into_values().flatten())).collect()
    }

    /// What members had they keep. Gives what is without an owner then.
    fn keep(&mut self) -> BTreeSet<Piece> {
        let wanted = self.topics.iter().filter(|(topic, _)| self.class_of.contains_key(topic));
        let mut free: BTreeSet<Piece> =
            wanted.flat_map(|(topic, racks)| (0..racks.len()).map(move |at| (*topic, at))).collect();
        let members = self.members;
        for (at, member) in members.iter().enumerate() {
            for (topic, partitions) in member.before.iter().filter(|(topic, _)| member.topics.contains(topic)) {
                for partition in partitions {
                    let piece = (*topic, usize::try_from(partition.get()).unwrap_or(usize::MAX));
                    if free.remove(&piece) {
                        self.hold(at, piece);
                    }
                }
            }
        }
        free
    }

    /// To a member in a rack of its replicas, if one of them is among those with the least.
    fn give_near(&mut self, piece: Piece) -> bool {
        let class = &self.classes[self.class_of[&piece.0]];
        let Some((least, _)) = class.takers.first() else { return true };
        let racks = &self.topics[&piece.0][piece.1];
        let near = racks.iter().filter_map(|rack| class.by_rack.get(rack)?.first());
        match near.filter(|(load, _)| load == least).min().copied() {
            Some((_, taker)) => {
                self.hold(taker, piece);
                true
            }
            None => false,
        }
    }

    /// To a member with the least, in its rack if possible.
    fn give(&mut self, piece: Piece) {
        if self.give_near(piece) {
            return;
        }
        if let Some((_, taker)) = self.classes[self.class_of[&piece.0]].takers.first().copied() {
            self.hold(taker, piece);
        }
    }

    /// Moves from those with the most, until nobody's move makes loads more equal. Whether anything was moved.
    fn balance(&mut self) -> bool {
        let mut rich: BTreeSet<(usize, usize)> = self.loads.iter().copied().zip(0..).collect();
        let mut has_moved = false;
        while let Some((load, from)) = rich.pop_last() {
            let targets = self.held[from].keys().filter_map(|class| {
                let (least, to) = self.classes[*class].takers.first()?;
                (least + 1 < load).then_some((*least, *to, *class))
            });
            let Some((least, to, class)) = targets.min() else { continue };
            let piece = self.best_to_move(from, to, class);
            self.drop(from, class, piece);
            self.hold(to, piece);
            has_moved = true;
            rich.insert((load - 1, from));
            if rich.remove(&(least, to)) {
                rich.insert((least + 1, to));
            }
        }
        has_moved
    }

    /// One that is nearer to its new owner than to the old, if there is one; the last one otherwise.
    fn best_to_move(&self, from: usize, to: usize, class: usize) -> Piece {
        let held = &self.held[from][&class];
        let is_near = |member: usize, piece: &Piece| {
            let rack = self.members[member].rack.as_ref();
            rack.is_some_and(|rack| self.topics[&piece.0][piece.1].contains(rack))
        };
        let has_racks = self.members[to].rack.is_some() || self.members[from].rack.is_some();
        let gain = |piece: &&Piece| i8::from(is_near(to, piece)) - i8::from(is_near(from, piece));
        let best = if has_racks { held.iter().max_by_key(gain) } else { held.last() };
        *best.expect("a class without pieces is not kept")
    }

    fn hold(&mut self, member: usize, piece: Piece) {
        let class = self.class_of[&piece.0];
        self.held[member].entry(class).or_default().insert(piece);
        self.set_load(member, self.loads[member] + 1);
    }

    fn drop(&mut self, member: usize, class: usize, piece: Piece) {
        if let Some(held) = self.held[member].get_mut(&class) {
            held.remove(&piece);
            if held.is_empty() {
                self.held[member].remove(&class);
            }
        }
        self.set_load(member, self.loads[member] - 1);
    }

    fn set_load(&mut self, member: usize, load: usize) {
        let before = (core::mem::replace(&mut self.loads[member], load), member);
        for class in &self.classes_of[member] {
            let class = &mut self.classes[*class];
            class.takers.remove(&before);
            class.takers.insert((load, member));
            if let Some(near) = self.members[member].rack.as_ref().and_then(|rack| class.by_rack.get_mut(rack)) {
                near.remove(&before);
                near.insert((load, member));
            }
        }
    }
}

fn partitions_of(pieces: impl Iterator<Item = Piece>) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic, at) in pieces {
        partitions.entry(topic).or_default().insert(index(at));
    }
    partitions
}
