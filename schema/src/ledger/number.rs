//! An entry's number: which series of a site's ledger it is in, and where.
//!
//! A site's ledger has one series after another, each a tree that begins at 0. A number says both at once, so
//! that entries of all of them are told apart and sorted by one integer: those of series s are the ones from
//! (s - 1) * 10^12 on. In the first series number and position are the same.

use super::error::LedgerError;

/// The most entries of one series.
pub const SERIES_ENTRIES_MAX: u64 = 1_000_000_000_000;
/// The last series: its numbers still fit where an entry refers to another one.
pub const SERIES_MAX: u32 = 9_000;

/// Returns the number of the entry at this position of a series, or of the one that comes next at this size.
///
/// # Errors
/// When there is no such series, or the position is beyond what one can have.
pub fn entry_number(series: u32, index: u64) -> Result<u64, LedgerError> {
    if !(1..=SERIES_MAX).contains(&series) || index >= SERIES_ENTRIES_MAX {
        return Err(LedgerError::malformed(
            "entry's number",
            format!("series {series} has no entry {index}"),
        ));
    }
    Ok(u64::from(series - 1) * SERIES_ENTRIES_MAX + index)
}

/// Returns series and position of the entry of this number; the series may be one that nobody has.
#[must_use]
pub fn entry_place(number: u64) -> (u32, u64) {
    let series = u32::try_from(number / SERIES_ENTRIES_MAX).expect("2^64 / 10^12 is below 2^25");
    (series + 1, number % SERIES_ENTRIES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SIZE_MAX;

    #[test]
    fn numbers_of_the_first_series_are_positions_and_all_others_come_behind() {
        for (series, index, number) in [
            (1, 0, 0),
            (1, 7, 7),
            (1, SERIES_ENTRIES_MAX - 1, SERIES_ENTRIES_MAX - 1),
            (2, 0, SERIES_ENTRIES_MAX),
            (SERIES_MAX, 5, 8_999 * SERIES_ENTRIES_MAX + 5),
        ] {
            assert_eq!(entry_number(series, index), Ok(number));
            assert_eq!(entry_place(number), (series, index));
            assert!(number < SIZE_MAX);
        }
        for (series, index) in [(0, 0), (SERIES_MAX + 1, 0), (1, SERIES_ENTRIES_MAX)] {
            assert!(entry_number(series, index).is_err());
        }
        assert_eq!(entry_place(u64::MAX).0, 18_446_745);
    }
}
