//! Upper bounds of the bytes of output of each function, estimated from its arguments.

use std::borrow::Cow;

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::sizes::{OfRow, constant_bytes, list_lengths, numbers, scalars, value_bytes};

/// Bytes of a character, at most.
const CHARACTER_BYTES: u64 = 4;
/// Output bytes per byte of a date format (16: `%c` makes 24 bytes of 2. Only `%+` exceeds 16 per byte: up to 35 of 2).
const FORMAT_BYTES: u64 = 16;
/// Bytes of a number as text, at most.
const NUMBER_BYTES: u64 = 24;
/// Bytes of an element of a range.
const ELEMENT_BYTES: u64 = 8;
/// Estimate in bytes below which the separators of a text are not counted (16 MiB).
const FEW_BYTES: u64 = 16 << 20;
/// Bytes of the position that `array_repeat` notes for each repeated element.
const POSITION_BYTES: u64 = 8;

const DAY_NANOS: i128 = 86_400_000_000_000;
/// Days of the shortest month.
const MONTH_DAYS: i128 = 28;
/// Nanoseconds of the shortest day. A day on which clocks are put forward is shorter by less than four hours.
const SHORT_DAY_NANOS: i128 = DAY_NANOS / 6 * 5;

/// How the output of a function grows with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// `repeat(text, count)`
    Repeat,
    /// `lpad(text, length, fill)`
    Pad,
    /// `replace(text, from, to)`: estimated as if `from` were at each place of the text.
    Replace,
    /// `regexp_replace(text, pattern, replacement, flags)`: estimated as if the pattern matched at each place of the
    /// text.
    RegexpReplace,
    /// `concat_ws(separator, text, …)`
    ConcatWs,
    /// `array_to_string(list, separator, null)`
    ArrayToString,
    /// `string_to_array(text, separator, null)`
    Split,
    /// `to_char(date, format)`
    Format,
    /// `range(start, stop, step)`
    Range,
    /// `array_repeat(element, count)`
    ArrayRepeat,
    /// `array_resize(list, length, element)`
    ArrayResize,
    /// Functions whose output has at most the bytes of all arguments. Only constants are counted, because the function
    /// may copy them for each row.
    Sum,
}

impl Growth {
    pub(super) fn of(function: &str) -> Option<Self> {
        Some(match function {
            "repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "replace" => Self::Replace,
            "regexp_replace" => Self::RegexpReplace,
            "concat_ws" => Self::ConcatWs,
            "array_to_string" => Self::ArrayToString,
            "string_to_array" => Self::Split,
            "to_char" => Self::Format,
            "range" | "generate_series" => Self::Range,
            "array_repeat" => Self::ArrayRepeat,
            "array_resize" => Self::ArrayResize,
            "concat" | "overlay" | "make_array" | "array_append" | "array_prepend" | "array_concat"
            | "array_except" | "array_intersect" | "array_union" | "array_position" | "array_positions"
            | "array_remove" | "array_remove_n" | "array_remove_all" | "array_replace" | "array_replace_n"
            | "array_replace_all" | "array_slice" => Self::Sum,
            _ => return None,
        })
    }

    /// Whether a call is refused if [`Growth::bytes`] is above the limit of bytes for its batch. `false` for `replace` and
    /// `regexp_replace`: their estimate assumes a match at every byte of the text. Texts with fewer matches give much
    /// less output, so these calls run on parts of the batch instead.
    pub(super) fn is_exact(self) -> bool {
        !matches!(self, Self::Replace | Self::RegexpReplace)
    }

    /// Refuses arguments with which the function would not end, such as a range with the step `1 day -24 hours`.
    pub(super) fn check(self, args: &ScalarFunctionArgs) -> Result<()> {
        let (Self::Range, [_, _, step]) = (self, &args.args[..]) else { return Ok(()) };
        let both_ways = |step: &ScalarValue| interval(step).filter(|step| goes_both_ways(*step));
        let found = match step {
            ColumnarValue::Scalar(step) => both_ways(step),
            ColumnarValue::Array(_) => (0..args.number_rows).find_map(scalars(step, both_ways)),
        };
        match found {
            None => Ok(()),
            Some(_) => {
                exec_err!("the step of a range must go in one direction: its months, days and time need one sign")
            }
        }
    }

    /// Upper bound of the bytes of output for each row.
    pub(super) fn bytes<'a>(self, args: &'a ScalarFunctionArgs) -> OfRow<'a, u64> {
        match (self, &args.args[..]) {
            (Self::Repeat, [text, count]) => {
                let (text, count) = (value_bytes(text), counts(count));
                Box::new(move |row| text(row).saturating_mul(count(row)))
            }
            (Self::Pad, [text, length, ..]) => {
                let (text, length) = (value_bytes(text), counts(length));
                Box::new(move |row| length(row).saturating_mul(CHARACTER_BYTES).saturating_add(text(row)))
            }
            (Self::Replace, [text, _, to]) => {
                let (text, to) = (value_bytes(text), value_bytes(to));
                Box::new(move |row| (text(row) + 1).saturating_mul(to(row)).saturating_add(text(row)))
            }
            (Self::RegexpReplace, [text, _, replacement, flags @ ..]) => {
                let references = references(replacement);
                let (text, replacement, is_global) = (value_bytes(text), value_bytes(replacement), !flags.is_empty());
                Box::new(move |row| {
                    let places = if is_global { text(row) + 1 } else { 1 };
                    let copied = text(row).saturating_mul(1 + references);
                    places.saturating_mul(replacement(row)).saturating_add(copied)
                })
            }
            (Self::ConcatWs, [separator, texts @ ..]) => {
                let (separator, gaps) = (value_bytes(separator), texts.len() as u64);
                let constants = texts.iter().map(constant_bytes).fold(0, u64::saturating_add);
                Box::new(move |row| separator(row).saturating_mul(gaps).saturating_add(constants))
            }
            (Self::ArrayToString, [list, separator, null @ ..]) => {
                let (lengths, list, separator) = (list_lengths(list), value_bytes(list), value_bytes(separator));
                let null = null.iter().map(constant_bytes).fold(0, u64::saturating_add);
                Box::new(move |row| {
                    let element = separator(row).saturating_add(null).saturating_add(NUMBER_BYTES);
                    lengths(row).saturating_mul(element).saturating_add(list(row))
                })
            }
            (Self::Split, [text, separator, ..]) => {
                let (bytes, separators) = (value_bytes(text), value_bytes(separator));
                let found = occurrences(text, separator);
                let of_element = split_bytes(&text.data_type());
                Box::new(move |row| {
                    let most = bytes(row) / separators(row).max(1);
                    let of_elements = |elements: u64| (elements + 1).saturating_mul(of_element);
                    let elements = if of_elements(most) < FEW_BYTES { most } else { found(row).unwrap_or(most) };
                    of_elements(elements).saturating_add(bytes(row))
                })
            }
            (Self::Format, [_, format]) => {
                let format = value_bytes(format);
                Box::new(move |row| (format(row) + 1).saturating_mul(FORMAT_BYTES))
            }
            (Self::Range, arguments) => range_bytes(arguments),
            (Self::ArrayRepeat, [element, count]) => {
                let (element, count) = (value_bytes(element), counts(count));
                Box::new(move |row| (element(row) + POSITION_BYTES).saturating_mul(count(row)))
            }
            (Self::ArrayResize, [list, length, element @ ..]) => {
                let width = element_width(list);
                let element = element.first().map(value_bytes);
                let length = counts(length);
                Box::new(move |row| {
                    let bytes = element.as_ref().map_or(0, |element| element(row)).max(width);
                    bytes.saturating_mul(length(row))
                })
            }
            _ => {
                let bytes = args.args.iter().map(constant_bytes).fold(0, u64::saturating_add);
                Box::new(move |_| bytes)
            }
        }
    }
}

/// Bytes per element of a split text besides its characters: room for the list while it doubles and is copied (views
/// of 16 bytes need 48, offsets of 8 bytes 24, offsets of 4 bytes 16).
fn split_bytes(text: &DataType) -> u64 {
    match text {
        DataType::Utf8View => 48,
        DataType::LargeUtf8 => 24,
        _ => 16,
    }
}

/// The number of separators in each text: 0 for an empty separator, `None` for a NULL separator, which splits the
/// text into characters.
fn occurrences<'a>(text: &'a ColumnarValue, separator: &'a ColumnarValue) -> OfRow<'a, Option<u64>> {
    let texts = |arg: &'a ColumnarValue| {
        move |row: usize| match arg {
            ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten().map(Cow::Borrowed),
            ColumnarValue::Array(array) => {
                let scalar = ScalarValue::try_from_array(array, row).ok()?;
                scalar.try_as_str().flatten().map(|text| Cow::Owned(text.to_owned()))
            }
        }
    };
    let (texts, separators) = (texts(text), texts(separator));
    Box::new(move |row| {
        let (text, separator) = (texts(row)?, separators(row)?);
        Some(if separator.is_empty() { 0 } else { text.matches(separator.as_ref()).count() as u64 })
    })
}

/// Each number. A negative number or NULL counts as 0.
fn counts(arg: &ColumnarValue) -> OfRow<'_, u64> {
    let numbers = numbers(arg);
    Box::new(move |row| numbers(row).map_or(0, |number| u64::try_from(number).unwrap_or(0)))
}

/// How often a replacement refers to the matched text, at most.
fn references(replacement: &ColumnarValue) -> u64 {
    let is_mark = |byte: &&u8| matches!(byte, b'\\' | b'$');
    match replacement {
        ColumnarValue::Scalar(scalar) => {
            let text = scalar.try_as_str().flatten().unwrap_or_default();
            text.as_bytes().iter().filter(is_mark).count() as u64
        }
        // A column of replacements is not searched. Each replacement counts as ten references.
        ColumnarValue::Array(_) => 10,
    }
}

/// The bytes of a list's element, if its type has a fixed width. Otherwise [`ELEMENT_BYTES`].
fn element_width(list: &ColumnarValue) -> u64 {
    match list.data_type() {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().primitive_width().map_or(ELEMENT_BYTES, |width| width as u64)
        }
        _ => ELEMENT_BYTES,
    }
}

fn range_bytes(arguments: &[ColumnarValue]) -> OfRow<'_, u64> {
    let starts = match arguments {
        [_] => None,
        [start, ..] => Some(positions(start)),
        [] => return Box::new(|_| 0),
    };
    let stops = positions(arguments.get(1).unwrap_or(&arguments[0]));
    let steps = arguments.get(2).map(|step| scalars(step, step_length));
    Box::new(move |row| {
        let start = starts.as_ref().map_or(Some(0), |starts| starts(row));
        let step = steps.as_ref().map_or(Some(1), |steps| steps(row));
        let (Some(start), Some(stop), Some(step)) = (start, stops(row), step) else { return 0 };
        elements(start, stop, step).saturating_mul(ELEMENT_BYTES)
    })
}

/// Upper bound of the number of elements of a range.
fn elements(start: i128, stop: i128, step: i128) -> u64 {
    if step == 0 || (step > 0) != (start <= stop) && start != stop {
        return 0;
    }
    let steps = start.abs_diff(stop) / step.unsigned_abs() + 1;
    u64::try_from(steps).unwrap_or(u64::MAX)
}

/// Each end of a range: a whole number, or a time in nanoseconds.
fn positions(arg: &ColumnarValue) -> OfRow<'_, Option<i128>> {
    scalars(arg, |scalar| match scalar {
        ScalarValue::Int64(number) => number.map(i128::from),
        ScalarValue::Date32(days) => days.map(|days| i128::from(days) * DAY_NANOS),
        ScalarValue::Date64(millis) => millis.map(|millis| i128::from(millis) * 1_000_000),
        ScalarValue::TimestampSecond(seconds, _) => seconds.map(|seconds| i128::from(seconds) * 1_000_000_000),
        ScalarValue::TimestampMillisecond(millis, _) => millis.map(|millis| i128::from(millis) * 1_000_000),
        ScalarValue::TimestampMicrosecond(micros, _) => micros.map(|micros| i128::from(micros) * 1_000),
        ScalarValue::TimestampNanosecond(nanos, _) => nanos.map(i128::from),
        _ => None,
    })
}

/// Lower bound of the length of a step, in the unit of [`positions`].
fn step_length(step: &ScalarValue) -> Option<i128> {
    if let ScalarValue::Int64(step) = step {
        return step.map(i128::from);
    }
    let IntervalMonthDayNano { months, days, nanoseconds } = interval(step)?;
    let days = i128::from(months) * MONTH_DAYS + i128::from(days);
    Some(days * SHORT_DAY_NANOS + i128::from(nanoseconds))
}

fn interval(step: &ScalarValue) -> Option<IntervalMonthDayNano> {
    match step {
        ScalarValue::IntervalMonthDayNano(step) => *step,
        _ => None,
    }
}

fn goes_both_ways(step: IntervalMonthDayNano) -> bool {
    let IntervalMonthDayNano { months, days, nanoseconds } = step;
    let parts = [i64::from(months), i64::from(days), nanoseconds];
    parts.iter().any(|part| *part > 0) && parts.iter().any(|part| *part < 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_no_more_elements() {
        let cases = [
            ((0, 10, 1), 11),
            ((0, 10, 3), 4),
            ((10, 0, -3), 4),
            ((0, 10, -1), 0),
            ((10, 0, 1), 0),
            ((5, 5, 1), 1),
            ((5, 5, -1), 1),
            ((0, 10, 0), 0),
            ((i128::from(i64::MIN), i128::from(i64::MAX), 1), u64::MAX),
        ];
        for ((start, stop, step), expected) in cases {
            assert_eq!(elements(start, stop, step), expected, "{start}, {stop}, {step}");
        }
    }

    #[test]
    fn steps_are_not_longer_than_they_are() {
        let month = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(1, 0, 0)));
        assert!(step_length(&month).expect("a step") <= 28 * DAY_NANOS);
        let hour = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, 3_600_000_000_000)));
        assert_eq!(step_length(&hour), Some(3_600_000_000_000));
    }

    #[test]
    fn signs_that_differ_are_found() {
        assert!(goes_both_ways(IntervalMonthDayNano::new(0, 1, -1)));
        assert!(goes_both_ways(IntervalMonthDayNano::new(-1, 0, 1)));
        assert!(!goes_both_ways(IntervalMonthDayNano::new(-1, -1, 0)));
        assert!(!goes_both_ways(IntervalMonthDayNano::new(0, 0, 0)));
    }
}
