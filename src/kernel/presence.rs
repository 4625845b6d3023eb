//! Which codes occur.

use super::pack;

/// The fields of codes of at most 8 bits that were seen.
#[derive(Debug, Clone)]
pub(crate) struct Presence {
    bits: u32,
    /// 1 for a byte of codes that was seen.
    bytes: [u8; 256],
    /// 1 for a field that was seen, but for those in `bytes`.
    fields: [u8; 256],
    /// Codes without their packing.
    unpacked: Vec<u8>,
}

/// Codes between two looks whether all were seen.
const PIECE: usize = 1 << 14;

/// Fewer codes than this are unpacked first: what bytes stand for is worked out once for each region.
const SHORT: usize = 256;

impl Presence {
    /// Of codes of at most 8 bits, none seen; `None` for wider ones.
    pub(crate) fn new(bits: u32) -> Option<Self> {
        (1..=8).contains(&bits).then(|| Self {
            bits,
            bytes: [0; 256],
            fields: [0; 256],
            unpacked: Vec::new(),
        })
    }

    /// Forgets what was seen.
    pub(crate) fn clear(&mut self) {
        self.bytes = [0; 256];
        self.fields = [0; 256];
    }

    /// Looks at the codes from `first` on, `count` of them, or fewer where `enough` fields were seen.
    pub(crate) fn look(&mut self, bytes: &[u8], first: usize, count: usize, enough: usize) {
        let per_byte = 8 / self.bits as usize;
        let whole = 8 % self.bits == 0;
        for start in (first..first.saturating_add(count)).step_by(PIECE) {
            let end = (start + PIECE).min(first + count);
            if whole && (per_byte == 1 || end - start >= SHORT) {
                // Whole bytes, and what lies before and behind them.
                let (front, back) = (start.next_multiple_of(per_byte), end / per_byte * per_byte);
                for index in (start..front).chain(back..end) {
                    if let Some(field) = pack::get(bytes, self.bits, index) {
                        mark(&[field as u8], &mut self.fields);
                    }
                }
                let bytes = bytes.get(front / per_byte..back / per_byte).unwrap_or_default();
                mark(bytes, &mut self.bytes);
            } else {
                self.unpacked.resize(end - start, 0);
                pack::unpack(bytes, self.bits, start, &mut self.unpacked);
                mark(&self.unpacked, &mut self.fields);
            }
            if end - start == PIECE && self.fields().filter(|seen| *seen).count() >= enough {
                return;
            }
        }
    }

    /// Whether each field was seen.
    pub(crate) fn fields(&mut self) -> impl Iterator<Item = bool> {
        let levels = 1usize << self.bits;
        if self.bits == 8 {
            self.fields.iter_mut().zip(self.bytes).for_each(|(field, byte)| *field |= byte);
        } else if self.bytes.contains(&1) {
            for (byte, _) in self.bytes.iter().enumerate().filter(|(_, seen)| **seen == 1) {
                for shift in (0..8).step_by(self.bits as usize) {
                    self.fields[byte >> shift & (levels - 1)] = 1;
                }
            }
        }
        self.fields.into_iter().take(levels).map(|seen| seen == 1)
    }
}

/// Marks the places of bytes. No bytes wait for each other.
fn mark(bytes: &[u8], seen: &mut [u8; 256]) {
    for &byte in bytes {
        seen[usize::from(byte)] = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_codes() {
        let bytes: Vec<u8> = (0..40_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8 % 97).collect();
        for bits in 1..=8 {
            let mut presence = Presence::new(bits).unwrap();
            let all = bytes.len() * 8 / bits as usize;
            for (first, count) in [
                (0, 0),
                (0, 1),
                (3, 5),
                (7, 255),
                (1, 256),
                (0, 300),
                (5, 1001),
                (33, 17_001),
                (0, all),
                (1, all - 2),
            ] {
                let mut fields = vec![0u8; count];
                pack::unpack(&bytes, bits, first, &mut fields);
                let expected: Vec<bool> =
                    (0..1u32 << bits).map(|field| fields.contains(&(field as u8))).collect();
                presence.clear();
                presence.look(&bytes, first, count, usize::MAX);
                assert_eq!(presence.fields().collect::<Vec<_>>(), expected, "{bits} {first} {count}");
                // Two stretches, one after the other.
                presence.clear();
                presence.look(&bytes, first, count / 3, usize::MAX);
                presence.look(&bytes, first + count / 3, count - count / 3, usize::MAX);
                assert_eq!(presence.fields().collect::<Vec<_>>(), expected, "{bits} {first} {count}");
                // As many as there are make no difference.
                presence.clear();
                presence.look(&bytes, first, count, expected.iter().filter(|seen| **seen).count().max(1));
                assert_eq!(presence.fields().collect::<Vec<_>>(), expected, "{bits} {first} {count}");
            }
        }
        assert!(Presence::new(9).is_none() && Presence::new(0).is_none());
    }
}
