//! Random numbers from the operating system, fetched in blocks: every id that Gramme makes needs 64 or 128 bits
//! that no other process, past or future, will draw.

use std::cell::RefCell;

/// A block of random words, refilled when it is used up.
#[derive(Default)]
pub(crate) struct Random {
    words: RefCell<Vec<u64>>,
}

impl Random {
    /// 64 bits.
    pub(crate) fn word(&self) -> u64 {
        let mut words = self.words.borrow_mut();
        if let Some(word) = words.pop() {
            return word;
        }
        let mut block = [0u8; WORDS * 8];
        getrandom::fill(&mut block)
            .expect("the operating system gives random numbers; without them no id would be safe to make");
        words.extend(
            block
                .chunks_exact(8)
                .map(|chunk| chunk.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte))),
        );
        words.pop().unwrap_or_default()
    }
}

/// 64 random bits, for what is drawn once.
pub(crate) fn word() -> u64 {
    Random::default().word()
}

const WORDS: usize = 64;
