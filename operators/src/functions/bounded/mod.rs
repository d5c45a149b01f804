//! Wraps functions: a function with large output gets a bound, and a slow function can be stopped between groups of
//! rows.
//!
//! `repeat('x', 1000000000)` takes a gigabyte for one row. Memory pools do not count memory of functions. If the
//! allocator refuses the memory, the process aborts: an executor with all its queries, or the scheduler, which folds
//! constants. So the size is computed from the arguments first:
//!
//! ```text
//!   repeat(name, n)   ->   Bounded(repeat): sum of length(name) * n over the batch < 256 MiB, then repeat(name, n)
//! ```
//!
//! A [`Bounded`] function has the name of DataFusion's function. It replaces that function in the scheduler's
//! sessions and on executors, which find functions by name. DataFusion refuses sizes that overflow
//! (apache/datafusion#22217, #22228), but not large sizes. Since apache/datafusion#25520, which came after release
//! 55.2, it also refuses steps of a range in both directions.

mod effort;
mod growth;
mod sizes;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};

use effort::Effort;
use growth::Growth;
use hwacha_execution::stop;

/// Most bytes of output of one call over a batch. The value is just below 256 MiB, because `bit_length` counts in
/// 32 bits and a core's share of an executor's memory, mostly 2 GiB or more, has room for several such arrays.
const MOST_BYTES: u64 = (256 << 20) - 1;

/// The functions that need a bound or a check for stops, each wrapped. Functions that are already wrapped are left
/// out.
pub fn bounded_functions<'a>(functions: impl IntoIterator<Item = &'a Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let bounded = |function: &Arc<ScalarUDF>| {
        let (growth, effort) = (Growth::of(function.name()), Effort::of(function.name()));
        let needs_bound = (growth.is_some() || effort.is_some()) && !function.inner().is::<Bounded>();
        needs_bound.then(|| Arc::new(ScalarUDF::from(Bounded { function: Arc::clone(function), growth, effort })))
    };
    functions.into_iter().filter_map(bounded).collect()
}

/// A function with a bound on its output, a check for stops, or both. It delegates everything but evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: Arc<ScalarUDF>,
    growth: Option<Growth>,
    effort: Option<Effort>,
}

impl Bounded {
    /// Calls the function if its estimated output is within the bound.
    fn bounded(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(growth) = self.growth else { return self.stoppable(args) };
        growth.check(&args)?;
        // A call without columns is evaluated once, for any number of rows.
        let rows = if sizes::has_columns(&args) { args.number_rows } else { 1 };
        let bytes = growth.bytes(&args);
        let (mut total, mut most) = (0_u64, 0);
        for row in 0..rows {
            let made = bytes(row);
            (total, most) = (total.saturating_add(made), most.max(made));
        }
        if total <= MOST_BYTES {
            drop(bytes);
            return self.stoppable(args);
        }
        if most > MOST_BYTES {
            return exec_err!("{} would make {most} bytes in one row; the limit is {MOST_BYTES}", self.name());
        }
        if growth.is_exact() {
            return self.too_many(total, rows);
        }
        self.in_parts(&args, &*bytes)
    }

    /// Calls the function. A slow function gets the rows in parts and can be stopped between them.
    fn stoppable(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(effort) = self.effort else { return self.function.invoke_with_args(args) };
        if !sizes::has_columns(&args) {
            args.number_rows = 1;
        }
        let numbers = effort.parts(&args, self.name())?;
        if numbers.len() == 1 {
            return self.function.invoke_with_args(args);
        }
        let (mut parts, mut start) = (vec![], 0);
        for rows in numbers {
            stop::check()?;
            parts.push(self.function.invoke_with_args(sizes::rows_of(&args, start, rows))?.into_array(rows)?);
            start += rows;
        }
        joined(&parts)
    }

    /// Calls the function for groups of rows whose estimated output stays within the bound. The estimate is an upper
    /// bound, and the real output is mostly much smaller. Fails if the real output of all groups is above the bound.
    fn in_parts(&self, args: &ScalarFunctionArgs, bytes: &dyn Fn(usize) -> u64) -> Result<ColumnarValue> {
        let (mut parts, mut start, mut made) = (vec![], 0, 0);
        while start < args.number_rows {
            let (mut end, mut possible) = (start + 1, bytes(start));
            while end < args.number_rows && possible.saturating_add(bytes(end)) <= MOST_BYTES {
                possible += bytes(end);
                end += 1;
            }
            let part = self.stoppable(sizes::rows_of(args, start, end - start))?;
            let part = part.into_array(end - start)?;
            made += part.get_buffer_memory_size() as u64;
            if made > MOST_BYTES {
                return self.too_many(made, end);
            }
            parts.push(part);
            start = end;
        }
        joined(&parts)
    }

    fn too_many<T>(&self, bytes: u64, rows: usize) -> Result<T> {
        exec_err!(
            "{} would make {bytes} bytes for {rows} rows at once; the limit is {MOST_BYTES}; \
             SET datafusion.execution.batch_size to less",
            self.name()
        )
    }
}

fn joined(parts: &[ArrayRef]) -> Result<ColumnarValue> {
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok(ColumnarValue::Array(concat(&parts)?))
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.function.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let function = Arc::new(self.function.inner().with_updated_config(config)?);
        Some(ScalarUDF::from(Self { function, growth: self.growth, effort: self.effort }))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.function.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.bounded(args)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.function.simplify(args, context)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, context: &SimplifyContext) -> Result<PreimageResult> {
        self.function.preimage(args, literal, context)
    }

    fn short_circuits(&self) -> bool {
        self.function.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.function.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.function.evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.function.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.function.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.function.struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.function.placement(args)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Int32Type};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::SessionStateDefaults;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// A session with bounded functions.
    fn session() -> SessionContext {
        let context = SessionContext::new();
        for function in bounded_functions(&SessionStateDefaults::default_scalar_functions()) {
            context.register_udf(ScalarUDF::clone(&function));
        }
        context
    }

    async fn run(sql: &str) -> Result<String> {
        let batches = session().sql(sql).await?.collect().await?;
        let formatted = pretty_format_batches(&batches)?.to_string();
        Ok(formatted.lines().nth(3).unwrap_or_default().trim_matches(['|', ' ']).to_owned())
    }

    async fn refusal(sql: &str) -> String {
        run(sql).await.expect_err(sql).strip_backtrace()
    }

    #[test]
    fn names_and_aliases_stay() {
        let functions = SessionStateDefaults::default_scalar_functions();
        let bounded = bounded_functions(&functions);
        assert!(bounded.len() > 20);
        for function in &bounded {
            let original = functions.iter().find(|original| original.name() == function.name()).expect("it exists");
            assert_eq!(original.aliases(), function.aliases());
            assert_eq!(original.signature(), function.signature());
        }
        assert!(bounded_functions(&bounded).is_empty(), "they are bounded once");
    }

    #[tokio::test]
    async fn constants_are_refused_while_they_are_folded() {
        for (sql, name) in [
            ("SELECT repeat('x', 1000000000)", "repeat"),
            ("SELECT lpad('x', 1000000000)", "lpad"),
            ("SELECT rpad('x', 1000000000, 'ab')", "rpad"),
            ("SELECT replace(repeat('a', 1000000), 'a', repeat('b', 100000))", "replace"),
            ("SELECT regexp_replace(repeat('a', 1000000), 'a', repeat('b', 100000), 'g')", "regexp_replace"),
            ("SELECT array_to_string(range(1000000), repeat('x', 1000000))", "array_to_string"),
            ("SELECT string_to_array(repeat('a,', 100000000), ',')", "string_to_array"),
            ("SELECT string_to_array(repeat('ab', 20000000), NULL)", "string_to_array"),
            ("SELECT range(1000000000)", "range"),
            ("SELECT generate_series(0, 9223372036854775807)", "generate_series"),
            ("SELECT array_repeat(1, 1000000000)", "array_repeat"),
            ("SELECT array_repeat(range(1000000), 1000000)", "array_repeat"),
            ("SELECT array_resize([1], 1000000000)", "array_resize"),
            ("SELECT to_char(date '2000-01-01', repeat('%c', 40000000))", "to_char"),
            (
                "SELECT generate_series(timestamp '2000-01-01', timestamp '2200-01-01', interval '1 microsecond')",
                "generate_series",
            ),
        ] {
            let text = refusal(sql).await;
            assert!(text.contains(&format!("{name} would make ")), "{sql}: {text}");
        }
    }

    #[tokio::test]
    async fn a_step_that_goes_both_ways_is_refused() {
        for sql in [
            "SELECT generate_series(date '2000-01-01', date '2000-01-03', interval '1 day -24 hours')",
            "SELECT range(timestamp '2000-01-01', timestamp '2000-01-03', interval '1 month -31 days')",
        ] {
            assert!(refusal(sql).await.contains("one direction"), "{sql}");
        }
    }

    #[tokio::test]
    async fn small_calls_give_what_they_gave() {
        for (sql, expected) in [
            ("SELECT repeat('ab', 3)", "ababab"),
            ("SELECT repeat('ab', -1)", ""),
            ("SELECT repeat(NULL, 1000000000)", ""),
            ("SELECT lpad('é', 4, 'xy')", "xyxé"),
            ("SELECT replace('aXbX', 'X', '--')", "a--b--"),
            ("SELECT regexp_replace('abc', '(b)', '[\\1]')", "a[b]c"),
            ("SELECT range(5, 0, -2)", "[5, 3, 1]"),
            ("SELECT range(5, 0)", "[]"),
            (
                "SELECT generate_series(9223372036854775806, 9223372036854775807)",
                "[9223372036854775806, 9223372036854775807]",
            ),
            ("SELECT array_length(generate_series(date '2000-01-31', date '2000-12-31', interval '1 month'))", "12"),
            (
                "SELECT array_length(generate_series(timestamp '2200-01-01', timestamp '2000-01-01', interval '1 microsecond'))",
                "0",
            ),
            ("SELECT array_repeat([1, 2], 2)", "[[1, 2], [1, 2]]"),
            ("SELECT array_resize([1], 3, 7)", "[1, 7, 7]"),
            ("SELECT list_repeat('x', 2)", "[x, x]"),
            ("SELECT array_to_string([1, 2, 3], '-')", "1-2-3"),
            ("SELECT string_to_array('a,b,c', ',')", "[a, b, c]"),
            ("SELECT array_length(string_to_array(repeat(concat(repeat('x', 1000), ','), 50000), ','))", "50001"),
            ("SELECT concat('a', NULL, 'b')", "ab"),
            ("SELECT concat_ws(',', 'a', NULL, 'b')", "a,b"),
        ] {
            assert_eq!(run(sql).await.expect(sql), expected, "{sql}");
        }
    }

    fn call(name: &str, args: Vec<ColumnarValue>, rows: usize, returns: DataType) -> Result<ColumnarValue> {
        let functions = bounded_functions(&SessionStateDefaults::default_scalar_functions());
        let function = functions.iter().find(|function| function.name() == name).expect("it is bounded");
        let field = |data_type: DataType| Arc::new(Field::new("", data_type, true));
        function.invoke_with_args(ScalarFunctionArgs {
            arg_fields: args.iter().map(|arg| field(arg.data_type())).collect(),
            args,
            number_rows: rows,
            return_field: field(returns),
            config_options: Arc::new(ConfigOptions::default()),
        })
    }

    fn column(array: impl Array + 'static) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(array))
    }

    #[test]
    fn rows_of_a_batch_add_up() {
        let texts = || column(StringViewArray::from_iter_values((0..1000).map(|row| row.to_string())));
        let count = |count: i64| ColumnarValue::Scalar(ScalarValue::from(count));
        let made = call("repeat", vec![texts(), count(10)], 1000, DataType::Utf8View).expect("it is small");
        assert_eq!(made.into_array(1000).expect("an array").as_string_view().value(7), "7777777777");
        let error = call("repeat", vec![texts(), count(1_000_000)], 1000, DataType::Utf8View).expect_err("2.9 GB");
        assert!(error.strip_backtrace().contains("repeat would make 2890000000 bytes for 1000 rows"), "{error}");
    }

    #[test]
    fn nulls_have_no_bytes() {
        let texts = column(StringArray::from(vec![Some("x"), None]));
        let counts = column(Int64Array::from(vec![None, Some(i64::MAX)]));
        let made = call("repeat", vec![texts, counts], 2, DataType::Utf8).expect("nothing is made");
        assert_eq!(made.into_array(2).expect("an array").null_count(), 2);
    }

    #[test]
    fn a_large_constant_is_repeated_for_each_row() {
        let large = ColumnarValue::Scalar(ScalarValue::from("x".repeat(1_000_000)));
        let rows = || column(StringArray::from_iter_values((0..8192).map(|row| row.to_string())));
        let error = call("concat", vec![large.clone(), rows()], 8192, DataType::Utf8).expect_err("8 GB");
        assert!(error.strip_backtrace().contains("concat would make"), "{error}");
        let both = call("concat", vec![large.clone(), large], 8192, DataType::Utf8).expect("one value");
        assert!(matches!(both, ColumnarValue::Scalar(_)));
    }

    #[test]
    fn what_takes_long_ends_when_it_is_stopped_and_gives_the_same_otherwise() {
        // 8 rows of 16 million steps each: a part of six rows and a part of two.
        let text = |byte: u8| String::from_utf8(vec![byte; 4_000]).expect("ASCII");
        let texts = |byte: u8| column(StringArray::from_iter_values((0..8).map(|row| text(byte + row % 3))));
        let distances = || call("levenshtein", vec![texts(b'a'), texts(b'b')], 8, DataType::Int32);
        let found = distances().expect("it ends").into_array(8).expect("an array");
        assert!(found.as_primitive::<Int32Type>().iter().all(|distance| distance == Some(4_000)));

        let stopped = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let error = stop::until_stopped(&stopped, distances).expect_err("it was stopped");
        assert!(error.strip_backtrace().contains("stopped"), "{error}");
    }

    #[test]
    fn a_row_that_would_never_end_is_refused() {
        let long = || ColumnarValue::Scalar(ScalarValue::from("x".repeat(100_000)));
        let error = call("levenshtein", vec![long(), long()], 1, DataType::Int32).expect_err("10^10 steps");
        let reason = "Execution error: the arguments of levenshtein are too long: the product of their lengths in \
                      bytes is 10000000000 in one row";
        assert!(error.strip_backtrace().starts_with(reason), "{error}");
    }

    #[test]
    fn what_may_be_too_much_but_is_not_is_done_in_parts() {
        // 100 rows of 1000 bytes. The estimate takes 10 KB for each byte, 1 GB in all, but only one byte of each row
        // is replaced.
        let text = format!("a{}", "b".repeat(999));
        let texts = column(StringArray::from_iter_values(std::iter::repeat_n(text.as_str(), 100)));
        let word = |word: &str| ColumnarValue::Scalar(ScalarValue::from(word));
        let args = vec![texts, word("a"), word(&"c".repeat(10_000))];
        let made = call("replace", args, 100, DataType::Utf8).expect("1 MB").into_array(100).expect("an array");
        let made = made.as_string::<i32>();
        assert_eq!(made.len(), 100);
        assert!(made.iter().flatten().all(|text| text.len() == 10_999 && text.starts_with("ccc")));
    }
}
