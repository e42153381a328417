//! Lanes in the vector registers of x86-64.

#![allow(unsafe_code, reason = "vector registers are reinterpreted as the numbers in them")]

use std::arch::x86_64::*;

use crate::lanes::{Lanes, compress};
use crate::{BLOCK_BYTES, State};

/// 4 lanes with AVX-512VL: a rotation and any function of three are one instruction each.
#[derive(Clone, Copy)]
struct X4(__m128i);
/// 8 lanes with AVX-512VL.
#[derive(Clone, Copy)]
struct X8(__m256i);
/// 16 lanes with AVX-512F.
#[derive(Clone, Copy)]
struct X16(__m512i);
/// 8 lanes with AVX2.
#[derive(Clone, Copy)]
struct Y8(__m256i);

/// The lanes of AVX-512: the truth tables are those of (b, c, d).
macro_rules! avx512 {
    ($lanes:ident, $set:ident, $add:ident, $rotate:ident, $ternary:ident) => {
        // SAFETY: AVX-512F and VL, which the entry points below have.
        unsafe impl Lanes for $lanes {
            #[inline(always)]
            unsafe fn splat(number: u32) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $set(number.cast_signed()) })
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $add(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $rotate::<LEFT>(self.0) })
            }
            #[inline(always)]
            unsafe fn f(b: Self, c: Self, d: Self) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $ternary::<0xca>(b.0, c.0, d.0) })
            }
            #[inline(always)]
            unsafe fn g(b: Self, c: Self, d: Self) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $ternary::<0xe4>(b.0, c.0, d.0) })
            }
            #[inline(always)]
            unsafe fn h(b: Self, c: Self, d: Self) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $ternary::<0x96>(b.0, c.0, d.0) })
            }
            #[inline(always)]
            unsafe fn i(b: Self, c: Self, d: Self) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $ternary::<0x39>(b.0, c.0, d.0) })
            }
        }
    };
}

avx512!(X4, _mm_set1_epi32, _mm_add_epi32, _mm_rol_epi32, _mm_ternarylogic_epi32);
avx512!(X8, _mm256_set1_epi32, _mm256_add_epi32, _mm256_rol_epi32, _mm256_ternarylogic_epi32);
avx512!(X16, _mm512_set1_epi32, _mm512_add_epi32, _mm512_rol_epi32, _mm512_ternarylogic_epi32);

// SAFETY: AVX2, which the entry point below has.
unsafe impl Lanes for Y8 {
    #[inline(always)]
    unsafe fn splat(number: u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_set1_epi32(number.cast_signed()) })
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_or_si256(_mm256_slli_epi32::<LEFT>(self.0), _mm256_srli_epi32::<RIGHT>(self.0)) })
    }
    #[inline(always)]
    unsafe fn f(b: Self, c: Self, d: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_xor_si256(d.0, _mm256_and_si256(b.0, _mm256_xor_si256(c.0, d.0))) })
    }
    #[inline(always)]
    unsafe fn g(b: Self, c: Self, d: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_or_si256(_mm256_and_si256(b.0, d.0), _mm256_andnot_si256(d.0, c.0)) })
    }
    #[inline(always)]
    unsafe fn h(b: Self, c: Self, d: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_xor_si256(b.0, _mm256_xor_si256(c.0, d.0)) })
    }
    #[inline(always)]
    unsafe fn i(b: Self, c: Self, d: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe {
            let not_d = _mm256_xor_si256(d.0, _mm256_set1_epi32(-1));
            _mm256_xor_si256(c.0, _mm256_or_si256(b.0, not_d))
        })
    }
}

/// 16 bytes of a block as a register.
#[inline(always)]
fn quarter(block: &[u8; BLOCK_BYTES], at: usize) -> __m128i {
    let (quarters, _) = block.as_chunks::<16>();
    // SAFETY: both are 16 bytes of plain data.
    unsafe { std::mem::transmute::<[u8; 16], __m128i>(quarters[at]) }
}

/// An entry point: `blocks` blocks of as many streams as there are lanes, from the beginnings of their data.
///
/// In each quarter of a block, register `j` takes the 16 bytes of the streams j, j + 4, j + 8 and j + 12, one to 128 bits. After
/// the 4 by 4 transpositions within those, register `k` holds word `k` of all streams in order.
macro_rules! entry {
    ($name:ident, $lanes:ident, $count:literal, $feature:literal, $vector:ty, $gather:expr, $lo32:ident, $hi32:ident, $lo64:ident, $hi64:ident) => {
        #[target_feature(enable = $feature)]
        pub(crate) fn $name(states: &mut [State; $count], data: &[&[u8]; $count], blocks: usize) {
            let mut columns = [[0u32; $count]; 4];
            for (lane, state) in states.iter().enumerate() {
                for (column, number) in columns.iter_mut().zip(state) {
                    column[lane] = *number;
                }
            }
            // SAFETY: both are vectors of as many plain 32-bit numbers.
            let mut state = columns.map(|column| $lanes(unsafe { std::mem::transmute::<[u32; $count], $vector>(column) }));
            let data: [&[[u8; BLOCK_BYTES]]; $count] = data.map(|bytes| &bytes.as_chunks().0[..blocks]);
            for at in 0..blocks {
                let block: [&[u8; BLOCK_BYTES]; $count] = std::array::from_fn(|lane| &data[lane][at]);
                let mut words = [state[0]; 16];
                for (part, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    let rows: [$vector; 4] = std::array::from_fn(|row| $gather(&block, row, part));
                    let (a, b) = ($lo32(rows[0], rows[1]), $hi32(rows[0], rows[1]));
                    let (c, d) = ($lo32(rows[2], rows[3]), $hi32(rows[2], rows[3]));
                    *words = [$lanes($lo64(a, c)), $lanes($hi64(a, c)), $lanes($lo64(b, d)), $lanes($hi64(b, d))];
                }
                // SAFETY: this function is compiled for the instructions of these lanes.
                unsafe { compress(&mut state, &words) };
            }
            // SAFETY: both are vectors of as many plain 32-bit numbers.
            let columns = state.map(|lanes| unsafe { std::mem::transmute::<$vector, [u32; $count]>(lanes.0) });
            for (lane, state) in states.iter_mut().enumerate() {
                *state = std::array::from_fn(|number| columns[number][lane]);
            }
        }
    };
}

entry!(
    four,
    X4,
    4,
    "avx512f,avx512vl",
    __m128i,
    |block: &[&[u8; BLOCK_BYTES]; 4], row: usize, part| quarter(block[row], part),
    _mm_unpacklo_epi32,
    _mm_unpackhi_epi32,
    _mm_unpacklo_epi64,
    _mm_unpackhi_epi64
);
entry!(
    eight,
    X8,
    8,
    "avx512f,avx512vl",
    __m256i,
    |block: &[&[u8; BLOCK_BYTES]; 8], row: usize, part| {
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(quarter(block[row], part)), quarter(block[row + 4], part))
    },
    _mm256_unpacklo_epi32,
    _mm256_unpackhi_epi32,
    _mm256_unpacklo_epi64,
    _mm256_unpackhi_epi64
);
entry!(
    eight_avx2,
    Y8,
    8,
    "avx2",
    __m256i,
    |block: &[&[u8; BLOCK_BYTES]; 8], row: usize, part| {
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(quarter(block[row], part)), quarter(block[row + 4], part))
    },
    _mm256_unpacklo_epi32,
    _mm256_unpackhi_epi32,
    _mm256_unpacklo_epi64,
    _mm256_unpackhi_epi64
);
entry!(
    sixteen,
    X16,
    16,
    "avx512f,avx512vl",
    __m512i,
    |block: &[&[u8; BLOCK_BYTES]; 16], row: usize, part| {
        let low = _mm512_castsi128_si512(quarter(block[row], part));
        let low = _mm512_inserti32x4::<1>(low, quarter(block[row + 4], part));
        let low = _mm512_inserti32x4::<2>(low, quarter(block[row + 8], part));
        _mm512_inserti32x4::<3>(low, quarter(block[row + 12], part))
    },
    _mm512_unpacklo_epi32,
    _mm512_unpackhi_epi32,
    _mm512_unpacklo_epi64,
    _mm512_unpackhi_epi64
);
