//! Milder variants of a fault, for shrinking a plan.

use super::{Fault, How, Moment, Place};
use crate::config::PowerCut;

impl Fault {
    /// Variants of itself that do less: best first, each different from it. Following any of them ends: there is always less
    /// in the variant.
    #[must_use]
    pub fn simpler(&self) -> Vec<Self> {
        let mut variants = Vec::new();
        self.fewer_machines(&mut variants);
        self.milder_choices(&mut variants);
        self.smaller_numbers(&mut variants);
        variants.retain(|variant| variant != self && variant.check().is_ok());
        variants
    }

    fn push(&self, variants: &mut Vec<Self>, change: impl FnOnce(&mut Self)) {
        let mut variant = self.clone();
        change(&mut variant);
        variants.push(variant);
    }

    fn fewer_machines(&self, variants: &mut Vec<Self>) {
        let Some((from, to, one_way)) = self.ways() else { return };
        for index in 0..from.len() {
            self.push(variants, |fault| fault.edit_ways(|from, _, _| drop(from.remove(index))));
        }
        for index in 0..to.len() {
            self.push(variants, |fault| fault.edit_ways(|_, to, _| drop(to.remove(index))));
        }
        if !one_way {
            self.push(variants, |fault| fault.edit_ways(|_, _, one_way| *one_way = true));
            self.push(variants, |fault| {
                fault.edit_ways(|from, to, one_way| {
                    core::mem::swap(from, to);
                    *one_way = true;
                });
            });
        }
    }

    fn edit_ways(&mut self, edit: impl FnOnce(&mut Vec<String>, &mut Vec<String>, &mut bool)) {
        match self {
            Self::Latency { from, to, one_way, .. }
            | Self::Loss { from, to, one_way, .. }
            | Self::Partition { from, to, one_way, .. }
            | Self::Clog { from, to, one_way, .. }
            | Self::SlowLink { from, to, one_way, .. }
            | Self::Segments { from, to, one_way, .. }
            | Self::ZeroWindow { from, to, one_way, .. }
            | Self::LateSegments { from, to, one_way, .. } => edit(from, to, one_way),
            Self::Reset { from, to, .. } | Self::Fin { from, to } | Self::HalfOpen { from, to } => {
                let (before, mut one_way) = ((from.clone(), to.clone()), false);
                edit(from, to, &mut one_way);
                if one_way {
                    // These have no direction.
                    (*from, *to) = before;
                }
            }
            _ => {}
        }
    }

    fn milder_choices(&self, variants: &mut Vec<Self>) {
        match self {
            Self::CrashAt { again, how, .. } => {
                for index in 0..again.len() {
                    self.push(variants, |fault| fault.edit_again(|again| drop(again.remove(index))));
                }
                if *how == How::PowerCut {
                    self.push(variants, |fault| {
                        if let Self::CrashAt { how, .. } = fault {
                            *how = How::Kill;
                        }
                    });
                }
            }
            Self::CrashAtDisk { again, moment, .. } => {
                for index in 0..again.len() {
                    self.push(variants, |fault| fault.edit_again(|again| drop(again.remove(index))));
                }
                if *moment == Moment::After {
                    self.push(variants, |fault| {
                        if let Self::CrashAtDisk { moment, .. } = fault {
                            *moment = Moment::Before;
                        }
                    });
                }
            }
            Self::Twin { copied: true, .. } => self.push(variants, |fault| {
                if let Self::Twin { copied, .. } = fault {
                    *copied = false;
                }
            }),
            Self::PowerCut { node, down_ms, keep, torn_sectors, garbage_tails } => {
                let same = (node.clone(), *down_ms);
                let kill = |(node, down_ms)| Self::Kill { node, down_ms, times: 1, up_ms: 0 };
                let cut = |keep, torn_sectors, garbage_tails| Self::PowerCut {
                    node: same.0.clone(),
                    down_ms: same.1,
                    keep,
                    torn_sectors,
                    garbage_tails,
                };
                variants.push(kill(same.clone()));
                match keep {
                    PowerCut::Pages => {
                        variants.push(cut(PowerCut::LoseAll, false, false));
                        if *torn_sectors || *garbage_tails {
                            variants.push(cut(PowerCut::Pages, false, false));
                        }
                    }
                    PowerCut::Random => {
                        variants.push(cut(PowerCut::LoseAll, false, false));
                        if *torn_sectors {
                            variants.push(cut(PowerCut::Random, false, *garbage_tails));
                        }
                        if *garbage_tails {
                            variants.push(cut(PowerCut::Random, *torn_sectors, false));
                        }
                    }
                    PowerCut::LoseAll | PowerCut::KeepAll if *torn_sectors || *garbage_tails => {
                        variants.push(cut(*keep, false, false));
                    }
                    PowerCut::LoseAll | PowerCut::KeepAll => {}
                }
            }
            _ => {}
        }
    }

    fn edit_again(&mut self, edit: impl FnOnce(&mut Vec<Place>)) {
        if let Self::CrashAt { again, .. } | Self::CrashAtDisk { again, .. } = self {
            edit(again);
        }
    }

    fn smaller_numbers(&self, variants: &mut Vec<Self>) {
        let mut copy = self.clone();
        let count = copy.numbers().len();
        for index in 0..count {
            let change = |half: bool| {
                move |fault: &mut Self| {
                    let mut numbers = fault.numbers();
                    let (number, mildest) = &mut numbers[index];
                    **number = if half { number.midpoint(*mildest) } else { *mildest };
                }
            };
            self.push(variants, change(false));
            self.push(variants, change(true));
        }
        if let Self::ClockStep { by_ms: by, .. } | Self::ClockSkew { by_ms: by, .. } | Self::ClockDrift { ppm: by, .. } =
            self
            && by.abs() > 1
        {
            self.push(variants, |fault| {
                if let Self::ClockStep { by_ms: by, .. }
                | Self::ClockSkew { by_ms: by, .. }
                | Self::ClockDrift { ppm: by, .. } = fault
                {
                    *by /= 2;
                }
            });
        }
    }

    /// Its numbers, each with the value that does least.
    fn numbers(&mut self) -> Vec<(&mut u64, u64)> {
        match self {
            Self::Loss { percent, lasts_ms, .. } => vec![(lasts_ms, 1), (percent, 1)],
            Self::Clog { queue_bytes, lasts_ms, .. } => vec![(lasts_ms, 1), (queue_bytes, 1 << 24)],
            Self::SlowLink { bytes_per_second, lasts_ms, .. } => vec![(lasts_ms, 1), (bytes_per_second, 1 << 24)],
            Self::Segments { bytes_max, lasts_ms, .. } => vec![(lasts_ms, 1), (bytes_max, 1 << 16)],
            Self::Reset { after_bytes, .. } => vec![(after_bytes, 0)],
            Self::LateSegments { delay_ms, .. } => vec![(delay_ms, 1)],
            Self::Kill { down_ms, times, up_ms, .. } => vec![(times, 1), (down_ms, 1), (up_ms, 0)],
            Self::PowerCut { down_ms, .. } | Self::Stop { down_ms, .. } | Self::WipedDisk { down_ms, .. } => {
                vec![(down_ms, 1)]
            }
            Self::CrashAt { skip, down_ms, again, .. } => {
                let mut numbers = vec![(down_ms, 1), (skip, 0)];
                numbers.extend(again.iter_mut().map(Place::number));
                numbers
            }
            Self::CrashAtDisk { at, down_ms, again, .. } => {
                let mut numbers = vec![(down_ms, 1), (at, 0)];
                numbers.extend(again.iter_mut().map(Place::number));
                numbers
            }
            Self::StallTask { index, lasts_ms, .. } => vec![(lasts_ms, 1), (index, 0)],
            Self::SlowCpu { step_us, lasts_ms, .. } => vec![(lasts_ms, 1), (step_us, 1)],
            Self::SyncFails { skip, times, .. }
            | Self::SyncLies { skip, times, .. }
            | Self::ReadFails { skip, times, .. }
            | Self::WriteFails { skip, times, .. }
            | Self::ShortRead { skip, times, .. }
            | Self::PhantomWrite { skip, times, .. } => vec![(times, 1), (skip, 0)],
            Self::MisdirectedWrite { skip, times, by_blocks, .. } => vec![(times, 1), (skip, 0), (by_blocks, 1)],
            Self::BitRot { file, place_ppm, bits, .. } => vec![(bits, 1), (file, 0), (place_ppm, 0)],
            Self::Unreadable { file, place_ppm, sectors, .. } => vec![(sectors, 1), (file, 0), (place_ppm, 0)],
            Self::FullDisk { free_bytes, lasts_ms, .. } => vec![(lasts_ms, 1), (free_bytes, 0)],
            Self::SlowDisk { factor, lasts_ms, .. } => vec![(lasts_ms, 1), (factor, 2)],
            Self::StaleSnapshot { age_ms, down_ms, .. } => vec![(age_ms, 1), (down_ms, 1)],
            Self::FewDescriptors { spare, lasts_ms, .. } => vec![(lasts_ms, 1), (spare, 0)],
            Self::ConnectionStorm { count, pause_us, hold_ms, .. } => vec![(count, 1), (hold_ms, 1), (pause_us, 0)],
            Self::Latency { lasts_ms, .. }
            | Self::Partition { lasts_ms, .. }
            | Self::ZeroWindow { lasts_ms, .. }
            | Self::ConnectSilence { lasts_ms, .. }
            | Self::ConnectRefusal { lasts_ms, .. }
            | Self::Pause { lasts_ms, .. }
            | Self::ClockSkew { lasts_ms, .. }
            | Self::ClockDrift { lasts_ms, .. }
            | Self::ClockFreeze { lasts_ms, .. }
            | Self::Twin { lasts_ms, .. }
            | Self::DiskStall { lasts_ms, .. } => vec![(lasts_ms, 1)],
            Self::Fin { .. } | Self::HalfOpen { .. } | Self::ClockStep { .. } => Vec::new(),
        }
    }
}

impl Place {
    fn number(&mut self) -> (&mut u64, u64) {
        match self {
            Self::Point { skip, .. } => (skip, 0),
            Self::Disk { at, .. } => (at, 0),
        }
    }
}
