//! Seeded chance, in separate streams, so that dropping one fault from a plan disturbs nothing but what
//! the fault touched.
//!
//! The generator is SplitMix64: tiny, fast, and the same on every machine for ever. It refuses to be used
//! for anything but simulation.

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream `name` of a seed, told apart further by `index`: two streams of one seed share nothing.
    pub fn stream(seed: u64, name: &str, index: u64) -> Rng {
        let label = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), seed);
        Rng { state: mix(label ^ mix(index.wrapping_add(GOLDEN))) }
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into something of this length; 0 if it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something that happens `permille` times in a thousand happens. Draws even at 0 and 1000, so
    /// that a changed likelihood shifts nothing else.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }

    /// One of these; they must not be empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// A waiting time around `mean`: exponential in four steps, so that one in sixteen is four times the
    /// mean and most are below it.
    pub fn spread(&mut self, mean: u64) -> u64 {
        let scale = match self.below(16) {
            0 => 4,
            1..=3 => 2,
            _ => 1,
        };
        self.between(mean / 4, mean) * scale
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_its_neighbour_differs() {
        let draw = |name, index| {
            let mut rng = Rng::stream(7, name, index);
            [rng.draw(), rng.draw(), rng.draw()]
        };
        assert_eq!(draw("net", 0), draw("net", 0));
        assert_ne!(draw("net", 0), draw("net", 1));
        assert_ne!(draw("net", 0), draw("disk", 0));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut rng = Rng::stream(1, "bounds", 0);
        for _ in 0..1000 {
            assert!(rng.below(3) < 3);
            assert!((5..=6).contains(&rng.between(5, 6)));
        }
        assert_eq!(rng.below(0), 0);
        assert!(!rng.chance(0) && rng.chance(1000));
    }
}
