//! What the simulator sees of product code, and how it reaches into it. In production all of it is zero-sized and constant.

/// Marks and switches. Every method is called with a literal, so that the catalogue can be read off the source; the
/// production type answers constants, and the compiler drops the calls and their names.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Something happened that a checker may want to know: `name` tells what, `fields` its numbers.
    fn event(&self, name: &'static str, fields: &[(&'static str, i64)]);

    /// Marks a place that a good set of simulations must reach at least once.
    fn sometimes(&self, name: &'static str);

    /// Whether to do the legal but unusual thing here. Always false in production.
    fn buggify(&self, name: &'static str) -> bool;

    /// Whether the planted bug `name` is switched on in this run. Always false in production.
    fn planted(&self, name: &'static str) -> bool;

    /// A place at which a simulated node may be killed or lose its power.
    fn crash_point(&self, name: &'static str);
}

/// The production probe: does nothing, answers false.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    #[inline(always)]
    fn event(&self, _name: &'static str, _fields: &[(&'static str, i64)]) {}

    #[inline(always)]
    fn sometimes(&self, _name: &'static str) {}

    #[inline(always)]
    fn buggify(&self, _name: &'static str) -> bool {
        false
    }

    #[inline(always)]
    fn planted(&self, _name: &'static str) -> bool {
        false
    }

    #[inline(always)]
    fn crash_point(&self, _name: &'static str) {}
}
