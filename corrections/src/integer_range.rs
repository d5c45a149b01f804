//! The range of integers that an expression can give. It shows where arithmetic may overflow.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;

/// The integers that an expression of one type can give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Integers {
    data_type: DataType,
    /// The least and the greatest number; `None` if a number may not fit into the type.
    range: Option<(i128, i128)>,
}

impl Integers {
    /// All numbers of a type; `None` for a type that is not an integer type.
    pub(crate) fn of_type(data_type: &DataType) -> Option<Self> {
        let range = Some(type_range(data_type)?);
        Some(Self { data_type: data_type.clone(), range })
    }

    /// The number of a constant. NULL counts as 0: arithmetic with NULL gives NULL and cannot overflow.
    pub(crate) fn of_value(value: &ScalarValue) -> Option<Self> {
        let numbers = Self::of_type(&value.data_type())?;
        match value.cast_to(&DataType::Decimal128(38, 0)) {
            Ok(ScalarValue::Decimal128(number, ..)) => {
                let number = number.unwrap_or(0);
                Some(Self { range: Some((number, number)), ..numbers })
            }
            _ => None,
        }
    }

    /// The result of a cast from integers, or from other values if `from` is `None`. A value outside the target type
    /// makes the cast itself fail, so the result is always within the type: 1 to 5 stays 1 to 5 as an Int8, and 1 to
    /// 500 becomes -128 to 127.
    pub(crate) fn of_cast(from: Option<Self>, data_type: &DataType) -> Option<Self> {
        let all = Self::of_type(data_type)?;
        let range =
            from.and_then(|from| from.range).filter(|range| all.range.is_some_and(|all| is_within(*range, all)));
        Some(Self { range: range.or(all.range), ..all })
    }

    /// The result of an operator. `None` if its operands have different types. If an operand may overflow, so may the
    /// result.
    pub(crate) fn of_operation(operator: Operator, left: Self, right: Self) -> Option<Self> {
        if left.data_type != right.data_type {
            return None;
        }
        let all = type_range(&left.data_type)?;
        let range = match (left.range, right.range) {
            (Some(left), Some(right)) => arithmetic(operator, left, right).unwrap_or(all),
            _ => return Some(Self { range: None, ..left }),
        };
        Some(Self { range: is_within(range, all).then_some(range), ..left })
    }

    /// The result of a negation, which is `0 - number`.
    pub(crate) fn negated(self) -> Option<Self> {
        let zero = Self { data_type: self.data_type.clone(), range: Some((0, 0)) };
        Self::of_operation(Operator::Minus, zero, self)
    }

    pub(crate) fn may_overflow(&self) -> bool {
        self.range.is_none()
    }
}

/// The least and the greatest result; `None` for operators that cannot overflow, or that report an overflow
/// themselves.
fn arithmetic(
    operator: Operator,
    (least, most): (i128, i128),
    (other_least, other_most): (i128, i128),
) -> Option<(i128, i128)> {
    match operator {
        Operator::Plus => Some((least + other_least, most + other_most)),
        Operator::Minus => Some((least - other_most, most - other_least)),
        Operator::Multiply => {
            let ends = [(least, other_least), (least, other_most), (most, other_least), (most, other_most)];
            let products = ends.map(|(one, other)| one.saturating_mul(other));
            Some((products.into_iter().min()?, products.into_iter().max()?))
        }
        _ => None,
    }
}

fn is_within((least, most): (i128, i128), (floor, ceiling): (i128, i128)) -> bool {
    floor <= least && most <= ceiling
}

fn type_range(data_type: &DataType) -> Option<(i128, i128)> {
    Some(match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: (i128, i128)) -> Integers {
        Integers { data_type: DataType::Int64, range: Some(range) }
    }

    #[test]
    fn operations_fit_or_not() {
        let (small, long) =
            ((i128::from(i32::MIN), i128::from(i32::MAX)), (i128::from(i64::MIN), i128::from(i64::MAX)));
        for (operator, left, right, expected) in [
            (Operator::Plus, small, (1, 1), Some((small.0 + 1, small.1 + 1))),
            (Operator::Minus, (0, 5), (-3, 2), Some((-2, 8))),
            (Operator::Multiply, (-2, 3), (-5, 4), Some((-15, 12))),
            (Operator::Multiply, small, small, Some((small.0 * small.1, small.0 * small.0))),
            (Operator::Plus, long, (1, 1), None),
            (Operator::Minus, long, (1, 1), None),
            (Operator::Multiply, long, long, None),
            (Operator::Multiply, long, (0, 0), Some((0, 0))),
            (Operator::Modulo, long, long, Some(long)),
        ] {
            let result = Integers::of_operation(operator, numbers(left), numbers(right)).expect("whole numbers");
            assert_eq!(result.range, expected, "{left:?} {operator} {right:?}");
        }
    }

    #[test]
    fn unsigned_numbers_have_no_opposite_and_overflow_stays() {
        let all = |data_type: DataType| Integers::of_type(&data_type).expect("whole numbers");
        let unsigned = all(DataType::UInt64);
        let square = Integers::of_operation(Operator::Multiply, unsigned.clone(), unsigned.clone());
        assert!(square.is_some_and(|square| square.may_overflow()));
        assert!(unsigned.negated().is_some_and(|opposite| opposite.may_overflow()));
        let opposite = all(DataType::Int8).negated().expect("whole numbers");
        assert!(opposite.may_overflow());
        let whole = Integers::of_operation(Operator::Divide, opposite, all(DataType::Int8));
        assert!(whole.is_some_and(|whole| whole.may_overflow()));
        assert!(Integers::of_operation(Operator::Plus, all(DataType::Int8), all(DataType::Int16)).is_none());
    }

    #[test]
    fn constants_and_casts_have_ranges() {
        let range = |numbers: Option<Integers>| numbers.and_then(|numbers| numbers.range);
        let value = |value: ScalarValue| range(Integers::of_value(&value));
        assert_eq!(value(ScalarValue::UInt64(Some(u64::MAX))), Some((u64::MAX.into(), u64::MAX.into())));
        assert_eq!(value(ScalarValue::Int64(None)), Some((0, 0)));
        assert_eq!(value(ScalarValue::from(1.5)), None);
        let cast = |from: Option<(i128, i128)>, to: DataType| range(Integers::of_cast(from.map(numbers), &to));
        assert_eq!(cast(Some((1, 5)), DataType::Int8), Some((1, 5)));
        assert_eq!(cast(Some((1, 500)), DataType::Int8), Some((-128, 127)));
        assert_eq!(cast(None, DataType::UInt8), Some((0, 255)));
        assert_eq!(cast(None, DataType::Utf8), None);
    }
}
