//! Bit-packed codes.

use core::fmt;
use core::ops::Range;

use crate::bits::BitWidth;
use crate::error::{FormatError, ShapeError};
use crate::kernel::pack;

use super::code_range::CodeRange;

/// Codes in a dense bit stream, least significant bit first.
///
/// Code `i` of a width of `b` bits occupies bits `i·b` to `i·b + b − 1` of the stream, where bit `j` is bit
/// `j mod 8` of byte `j / 8`. Signed codes are in two's complement. The last byte is padded with zeros. This
/// is the layout of ONNX's 4-bit and 2-bit types, and plain bytes at 8 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedCodes {
    bits: BitWidth,
    signed: bool,
    len: usize,
    bytes: Vec<u8>,
}

impl PackedCodes {
    /// No codes yet, of a width and sign.
    pub const fn new(bits: BitWidth, signed: bool) -> Self {
        Self { bits, signed, len: 0, bytes: Vec::new() }
    }

    /// Codes from their packed bytes.
    ///
    /// # Errors
    ///
    /// [`FormatError::Entry`] if the number of bytes is not that of `len` codes or the padding is not zero;
    /// [`FormatError::Code`] for a code outside `codes`.
    pub fn from_bytes(
        bits: BitWidth,
        codes: CodeRange,
        len: usize,
        bytes: Vec<u8>,
    ) -> Result<Self, FormatError> {
        let needed = pack::packed_len(len, bits.get());
        if needed != Some(bytes.len()) {
            return Err(FormatError::Entry {
                name: "codes".to_owned(),
                found: format!("{} bytes", bytes.len()),
                expected: match needed {
                    Some(needed) => format!("{needed} bytes for {len} codes of {bits} bits"),
                    None => format!("a number of codes whose bits can be counted, not {len}"),
                },
            });
        }
        let used = (len as u128 * u128::from(bits.get()) % 8) as u32;
        if let Some(last) = bytes.last().filter(|_| used > 0)
            && last >> used != 0
        {
            return Err(FormatError::Entry {
                name: "codes".to_owned(),
                found: format!("a last byte of {last:#010b}"),
                expected: format!("zeros above its lowest {used} bits"),
            });
        }
        let packed = Self { bits, signed: codes.is_signed(), len, bytes };
        if codes.count() < bits.levels() {
            let (mut index, mut outside) = (0, None);
            packed.for_each(0..len, &mut |code| {
                if outside.is_none() && !codes.contains(code) {
                    outside = Some((index, code));
                }
                index += 1;
            });
            if let Some((index, code)) = outside {
                return Err(FormatError::Code { index, code, q_min: codes.min(), q_max: codes.max() });
            }
        }
        Ok(packed)
    }

    /// Codes chosen one by one, packed in their order.
    ///
    /// ```
    /// use lowbit::CodeRange;
    /// use lowbit::prelude::*;
    /// use lowbit::tensor::PackedCodes;
    ///
    /// let bits = BitWidth::new(4)?;
    /// let codes = PackedCodes::from_codes(bits, CodeRange::signed(bits), [1, -8, 7])?;
    /// assert_eq!(codes.as_bytes(), [0x81, 0x07]);
    /// assert!(PackedCodes::from_codes(bits, CodeRange::signed(bits), [8]).is_err());
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FormatError::Code`] for the first code outside `codes`, or one that `bits` bits do not hold.
    pub fn from_codes(
        bits: BitWidth,
        codes: CodeRange,
        chosen: impl IntoIterator<Item = i32>,
    ) -> Result<Self, FormatError> {
        let (width, signed) = (bits.get(), codes.is_signed());
        let all = if signed { CodeRange::signed(bits) } else { CodeRange::unsigned(bits) };
        let (low, high) = (codes.min().max(all.min()), codes.max().min(all.max()));
        let chosen = chosen.into_iter();
        let mut bytes = Vec::with_capacity(pack::packed_len(chosen.size_hint().0, width).unwrap_or_default());
        let (mut len, mut fields) = (0, [0u16; 256]);
        let mut flush = |fields: &[u16]| {
            let at = bytes.len();
            bytes.resize(at + (fields.len() * width as usize).div_ceil(8), 0);
            pack::pack(fields, width, bytes.get_mut(at..).unwrap_or_default());
        };
        for code in chosen {
            if !(low <= code && code <= high) {
                return Err(FormatError::Code { index: len, code, q_min: low, q_max: high });
            }
            // Two's complement: the lower bits are the field, and packing drops the others.
            fields[len % 256] = code as u16;
            len += 1;
            if len % 256 == 0 {
                flush(&fields);
            }
        }
        flush(fields.get(..len % 256).unwrap_or_default());
        Ok(Self { bits, signed, len, bytes })
    }

    /// The width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// Whether codes are signed.
    pub const fn is_signed(&self) -> bool {
        self.signed
    }

    /// The number of codes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no codes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// 8-bit signed codes, without a copy; `None` for any other kind.
    pub fn as_i8(&self) -> Option<&[i8]> {
        (self.bits == BitWidth::EIGHT && self.signed).then(|| pack::as_i8(&self.bytes))
    }

    /// 8-bit unsigned codes, without a copy; `None` for any other kind.
    pub fn as_u8(&self) -> Option<&[u8]> {
        (self.bits == BitWidth::EIGHT && !self.signed).then_some(&*self.bytes)
    }

    /// The code at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<i32> {
        if index >= self.len {
            return None;
        }
        let field = pack::get(&self.bytes, self.bits.get(), index)?;
        Some(sign_extend(field, self.sign_bit()))
    }

    /// Bit `bit` of every code, as a stream of bits of its own: that of code `i` is bit `i mod 8` of byte `i / 8`. Of
    /// [binary codes](crate::tensor::BinaryCodeScheme) this is the plane of signs of one coefficient. `None` for a bit
    /// that the codes do not have. Allocates.
    pub fn bit_plane(&self, bit: u32) -> Option<Vec<u8>> {
        if bit >= self.bits.get() {
            return None;
        }
        let mut plane = vec![0u8; self.len.div_ceil(8)];
        let mut index = 0usize;
        self.for_each(0..self.len, &mut |code| {
            if let Some(byte) = plane.get_mut(index / 8) {
                *byte |= ((code >> bit & 1) as u8) << (index % 8);
            }
            index += 1;
        });
        Some(plane)
    }

    /// All codes in order. To read many at once, [`unpack_into`](Self::unpack_into) is faster.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        (0..self.len).filter_map(|index| self.get(index))
    }

    /// All codes, one `i32` each. Allocates.
    pub fn unpack(&self) -> Vec<i32> {
        let mut codes = vec![0; self.len];
        // The length is right by construction.
        let _ = self.unpack_into(&mut codes);
        codes
    }

    /// Writes all codes to `out`.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless `out` has [`len`](Self::len) places.
    pub fn unpack_into(&self, out: &mut [i32]) -> Result<(), ShapeError> {
        if out.len() != self.len {
            return Err(ShapeError::Length { found: out.len(), expected: self.len });
        }
        let mut places = out.iter_mut();
        self.for_each(0..self.len, &mut |code| {
            if let Some(place) = places.next() {
                *place = code;
            }
        });
        Ok(())
    }

    /// Calls `look` for the codes `range`, in order.
    pub(crate) fn for_each(&self, range: Range<usize>, look: &mut impl FnMut(i32)) {
        let mut fields = [0u16; 256];
        let end = range.end.min(self.len);
        for start in (range.start..end).step_by(fields.len()) {
            let count = fields.len().min(end - start);
            let fields = fields.get_mut(..count).unwrap_or_default();
            pack::unpack(&self.bytes, self.bits.get(), start, fields);
            fields.iter().for_each(|&field| look(sign_extend(field, self.sign_bit())));
        }
    }

    /// The bit that carries the sign, or 0 for unsigned codes.
    pub(crate) const fn sign_bit(&self) -> u16 {
        if self.signed { 1 << (self.bits.get() - 1) } else { 0 }
    }

    /// Drops all codes, keeping the allocation.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.bytes.clear();
    }

    /// Makes room for `len` codes of another kind and returns the bytes to write them to, keeping the
    /// allocation. The bytes hold anything until written.
    pub(crate) fn reset(
        &mut self,
        bits: BitWidth,
        signed: bool,
        len: usize,
    ) -> Result<&mut [u8], ShapeError> {
        let bytes =
            pack::packed_len(len, bits.get()).ok_or_else(|| ShapeError::TooLarge { shape: vec![len] })?;
        self.bits = bits;
        self.signed = signed;
        self.len = len;
        self.bytes.resize(bytes, 0);
        Ok(&mut self.bytes)
    }
}

/// The code of a stored field: two's complement where there is a sign bit.
pub(crate) const fn sign_extend(field: u16, sign_bit: u16) -> i32 {
    (field ^ sign_bit) as i32 - sign_bit as i32
}

/// `4608 signed 4-bit codes: -1 3 7 0 ...`
impl fmt::Debug for PackedCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.signed { "signed" } else { "unsigned" };
        write!(f, "{} {sign} {}-bit codes:", self.len, self.bits)?;
        for code in self.iter().take(8) {
            write!(f, " {code}")?;
        }
        f.write_str(if self.len > 8 { " ..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_codes_are_packed_as_bytes_are_read() {
        for width in 1..=16 {
            let bits = BitWidth::new(width).unwrap();
            for range in [CodeRange::signed(bits), CodeRange::unsigned(bits)] {
                for len in [0, 1, 7, 255, 256, 257, 1000] {
                    let span = range.count() as usize;
                    let chosen: Vec<i32> = (0..len).map(|i| range.min() + (i * 7919 % span) as i32).collect();
                    let packed = PackedCodes::from_codes(bits, range, chosen.iter().copied()).unwrap();
                    assert_eq!(packed.unpack(), chosen, "{range} {len}");
                    let bytes = packed.as_bytes().to_vec();
                    assert_eq!(PackedCodes::from_bytes(bits, range, len, bytes).unwrap(), packed);
                }
            }
        }
    }

    #[test]
    fn codes_that_do_not_fit_are_errors_that_name_them() {
        let four = BitWidth::new(4).unwrap();
        let restricted = CodeRange::new(-7, 7).unwrap();
        let error = PackedCodes::from_codes(four, restricted, [0, -8]).unwrap_err();
        assert!(matches!(error, FormatError::Code { index: 1, code: -8, q_min: -7, q_max: 7 }), "{error}");
        // A range wider than the width is cut down to it.
        let wide = CodeRange::new(-100, 100).unwrap();
        assert!(PackedCodes::from_codes(four, wide, [-8, 7]).is_ok());
        for code in [8, -9, 100, i32::MIN, i32::MAX] {
            assert!(PackedCodes::from_codes(four, wide, [code]).is_err(), "{code}");
        }
    }
}
