//! Tests that a plan is the same after encoding and decoding, for each kind of value, type, expression and operator.
//!
//! If DataFusion gets a new kind of value, `number` below does not compile until the kind has a number. Then a test
//! fails until there is an example of the kind. If DataFusion's encoding begins to leave out another property, a
//! decoded plan is described differently.

#[path = "../../operators/src/containers.rs"]
mod containers;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float16Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    Schema, SchemaRef, TimeUnit, UnionFields, UnionMode, i256,
};
use datafusion::catalog::MemTable;
use datafusion::common::ScalarValue;
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Operator, ScalarUDF};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, DynamicFilterPhysicalExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal,
    NegativeExpr, NotExpr, TryCastExpr, in_list, lit,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use datafusion::prelude::SessionContext;
use hwacha_execution::session::session_config;
use hwacha_model::OutputKind;
use hwacha_operators::exchange::ExchangeSinkExec;
use hwacha_operators::scalars::{decode_scalar, encode_scalar};

use self::containers::containers;
use super::omitted::functions_of_windows;
use super::{decode, decode_schema, encode, encode_schema};

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// The number of the last kind in [`number`].
const LAST_KIND: usize = 50;

/// The number of the kind of `value`. There is no wildcard arm, so this function does not compile if DataFusion gets a
/// new kind of value. The new kind then needs an example below.
fn number(value: &ScalarValue) -> usize {
    use ScalarValue::*;
    match value {
        Null => 0,
        Boolean(_) => 1,
        Float16(_) => 2,
        Float32(_) => 3,
        Float64(_) => 4,
        Decimal32(..) => 5,
        Decimal64(..) => 6,
        Decimal128(..) => 7,
        Decimal256(..) => 8,
        Int8(_) => 9,
        Int16(_) => 10,
        Int32(_) => 11,
        Int64(_) => 12,
        UInt8(_) => 13,
        UInt16(_) => 14,
        UInt32(_) => 15,
        UInt64(_) => 16,
        Utf8(_) => 17,
        Utf8View(_) => 18,
        LargeUtf8(_) => 19,
        Binary(_) => 20,
        BinaryView(_) => 21,
        FixedSizeBinary(..) => 22,
        LargeBinary(_) => 23,
        FixedSizeList(_) => 24,
        List(_) => 25,
        LargeList(_) => 26,
        ListView(_) => 27,
        LargeListView(_) => 28,
        Struct(_) => 29,
        Map(_) => 30,
        Date32(_) => 31,
        Date64(_) => 32,
        Time32Second(_) => 33,
        Time32Millisecond(_) => 34,
        Time64Microsecond(_) => 35,
        Time64Nanosecond(_) => 36,
        TimestampSecond(..) => 37,
        TimestampMillisecond(..) => 38,
        TimestampMicrosecond(..) => 39,
        TimestampNanosecond(..) => 40,
        IntervalYearMonth(_) => 41,
        IntervalDayTime(_) => 42,
        IntervalMonthDayNano(_) => 43,
        DurationSecond(_) => 44,
        DurationMillisecond(_) => 45,
        DurationMicrosecond(_) => 46,
        DurationNanosecond(_) => 47,
        Union(..) => 48,
        Dictionary(..) => 49,
        RunEndEncoded(..) => LAST_KIND,
    }
}

/// Values of each kind that contains no other values, and a NULL of each of these kinds.
fn plain_values() -> Vec<ScalarValue> {
    use ScalarValue::*;
    let zone: Option<Arc<str>> = Some("Europe/Berlin".into());
    let text = || Some("a text of more than twelve bytes".to_owned());
    let bytes = || Some(vec![0, 1, 255]);
    let values = vec![
        Boolean(Some(true)),
        Float16(Some(Half::from_f32(1.5))),
        Float16(Some(Half::from_f32(-0.0))),
        Float16(Some(Half::NAN)),
        Float32(Some(f32::NEG_INFINITY)),
        Float64(Some(f64::NAN)),
        Decimal32(Some(-5), 5, 2),
        Decimal64(Some(5), 12, -2),
        Decimal128(Some(-12_345), 38, 10),
        Decimal256(Some(i256::from_i128(-5)), 76, -5),
        Int8(Some(i8::MIN)),
        Int16(Some(i16::MIN)),
        Int32(Some(i32::MIN)),
        Int64(Some(i64::MIN)),
        UInt8(Some(u8::MAX)),
        UInt16(Some(u16::MAX)),
        UInt32(Some(u32::MAX)),
        UInt64(Some(u64::MAX)),
        Utf8(text()),
        Utf8View(text()),
        LargeUtf8(Some(String::new())),
        Binary(bytes()),
        BinaryView(bytes()),
        FixedSizeBinary(3, bytes()),
        LargeBinary(bytes()),
        Date32(Some(-1)),
        Date64(Some(86_400_000)),
        Time32Second(Some(1)),
        Time32Millisecond(Some(1)),
        Time64Microsecond(Some(1)),
        Time64Nanosecond(Some(1)),
        TimestampSecond(Some(-1), None),
        TimestampMillisecond(Some(1), Some("+02:00".into())),
        TimestampMicrosecond(Some(1), zone.clone()),
        TimestampNanosecond(Some(i64::MAX), zone),
        IntervalYearMonth(Some(-13)),
        IntervalDayTime(Some(IntervalDayTimeType::make_value(1, -2))),
        IntervalMonthDayNano(Some(IntervalMonthDayNanoType::make_value(1, -2, 3))),
        DurationSecond(Some(1)),
        DurationMillisecond(Some(-1)),
        DurationMicrosecond(Some(1)),
        DurationNanosecond(Some(1)),
    ];
    let nulls: Vec<_> = values.iter().map(|value| null(&value.data_type())).collect();
    values.into_iter().chain(nulls).chain([Null]).collect()
}

fn null(data_type: &DataType) -> ScalarValue {
    ScalarValue::try_from(data_type).expect("there is a NULL of every type")
}

/// The value in each kind of container: lists, structs, maps, dictionaries and so on.
fn values_around(value: &ScalarValue) -> Vec<ScalarValue> {
    let four = value.to_array_of_size(4).expect("an array of the value");
    let mut arrays = containers(&four);
    let item = Arc::new(Field::new("element", four.data_type().clone(), true).with_metadata(metadata()));
    for view in [DataType::ListView(Arc::clone(&item)), DataType::LargeListView(Arc::clone(&item))] {
        arrays.push(cast(&arrays[0], &view).expect("a list becomes its view"));
    }
    let first = |array: &ArrayRef| ScalarValue::try_from_array(array, 0).expect("there is a first row");
    let nested = arrays.iter().map(first);
    let nulls =
        arrays.iter().map(|array| array.data_type()).filter(|data_type| !matches!(data_type, DataType::Union(..)));
    let nothing = ScalarValue::List(ScalarValue::new_list(&[], four.data_type(), true));
    nested.chain(nulls.map(null)).chain([nothing]).chain(values_with(value)).collect()
}

/// The value in each kind that contains one value: dictionary, run-end encoded and union values.
fn values_with(value: &ScalarValue) -> Vec<ScalarValue> {
    use ScalarValue::*;
    let data_type = value.data_type();
    let field = |name: &str| Arc::new(Field::new(name, data_type.clone(), true));
    let fields: UnionFields = [(2, field("a")), (7, field("b"))].into_iter().collect();
    let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
    vec![
        Dictionary(Box::new(DataType::Int8), Box::new(value.clone())),
        RunEndEncoded(ends, field("values"), Box::new(value.clone())),
        Union(Some((7, Box::new(value.clone()))), fields.clone(), UnionMode::Sparse),
        Union(None, fields, UnionMode::Dense),
    ]
}

fn metadata() -> HashMap<String, String> {
    HashMap::from([("unit".to_owned(), "ms".to_owned())])
}

fn all_values() -> Vec<ScalarValue> {
    let plain = plain_values();
    let nested: Vec<_> = plain.iter().flat_map(values_around).collect();
    // Two values are nested twice: DataFusion's encoding changes the first and keeps the second. Run-end encoded values
    // are left out, because lists cannot contain them.
    let deep = [ScalarValue::Float16(Some(Half::from_f32(1.5))), ScalarValue::Utf8View(None)];
    let inner = deep.iter().flat_map(values_around).filter(|value| number(value) != LAST_KIND);
    let deep: Vec<_> = inner.flat_map(|value| values_around(&value)).collect();
    plain.into_iter().chain(nested).chain(deep).collect()
}

#[test]
fn values_of_every_kind_survive() {
    let mut seen = [false; LAST_KIND + 1];
    for value in all_values() {
        seen[number(&value)] = true;
        let encoded =
            encode_scalar(&value).unwrap_or_else(|error| panic!("{:?} {value:?}: {error}", value.data_type()));
        let decoded = decode_scalar(&encoded).unwrap_or_else(|error| panic!("{value:?}: {error}"));
        assert_eq!(decoded.data_type(), value.data_type(), "{value:?}");
        assert_eq!(decoded, value);
    }
    assert!(!seen.contains(&false), "there is no example of kind {:?}", seen.iter().position(|seen| !seen));
}

/// The types of all plain values, and every kind of container of each of them.
fn types() -> Vec<DataType> {
    let plain = plain_values().iter().map(ScalarValue::data_type).collect::<Vec<_>>();
    let nested = plain.iter().flat_map(|data_type| {
        let four = new_null_array(data_type, 4);
        let field = Arc::new(Field::new("element", data_type.clone(), true).with_metadata(metadata()));
        let views = [DataType::ListView(Arc::clone(&field)), DataType::LargeListView(Arc::clone(&field))];
        let ends = Arc::new(Field::new("run_ends", DataType::Int64, false));
        let others = [
            DataType::Dictionary(Box::new(DataType::UInt16), Box::new(data_type.clone())),
            DataType::Dictionary(
                Box::new(DataType::Int8),
                Box::new(DataType::Dictionary(Box::new(DataType::Int32), Box::new(data_type.clone()))),
            ),
            DataType::RunEndEncoded(ends, field),
        ];
        let containers = containers(&four).into_iter().map(|array| array.data_type().clone()).collect::<Vec<_>>();
        containers.into_iter().chain(views).chain(others).collect::<Vec<_>>()
    });
    let nested: Vec<_> = nested.collect();
    plain.into_iter().chain(nested).collect()
}

#[test]
fn types_of_every_kind_survive() {
    let fields = types().into_iter().enumerate().map(|(index, data_type)| {
        let field = Field::new(format!("c{index}"), data_type, index % 2 == 0);
        if index % 3 == 0 { field.with_metadata(metadata()) } else { field }
    });
    let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata()));
    let decoded = decode_schema(&encode_schema(&schema).expect("encodable")).expect("decodable");
    assert_eq!(decoded, schema);
    let empty: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::clone(&schema)));
    assert_eq!(survived(&empty).schema(), schema);
}

/// The context in which plans are decoded, as on an executor.
fn context() -> &'static TaskContext {
    static CONTEXT: OnceLock<Arc<TaskContext>> = OnceLock::new();
    // If this setting were on, decoding would replace arithmetic by expressions that fail on overflow.
    CONTEXT.get_or_init(|| session(&[("hwacha.execution.checked_arithmetic", "false")]).task_ctx())
}

/// Encodes `plan` below a sink, and decodes it.
fn survived(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let sink: Arc<dyn ExecutionPlan> = Arc::new(ExchangeSinkExec::new(Arc::clone(plan), OutputKind::Gather, 1, vec![]));
    let bytes = encode(&sink).unwrap_or_else(|error| panic!("{error}\n{}", displayable(plan.as_ref()).indent(true)));
    let decoded = decode(&bytes, context())
        .unwrap_or_else(|error| panic!("{error}\n{}", displayable(plan.as_ref()).indent(true)));
    Arc::clone(decoded.children()[0])
}

fn schema() -> SchemaRef {
    let word = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("n", DataType::Int64, false),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("h", DataType::Float16, true),
        Field::new("d", word, true),
        Field::new("z", DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())), true),
    ]))
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &schema()).expect("it is there"))
}

fn half(value: f32) -> Arc<dyn PhysicalExpr> {
    lit(ScalarValue::Float16(Some(Half::from_f32(value))))
}

/// An expression of every kind.
fn expressions() -> Vec<Arc<dyn PhysicalExpr>> {
    let [a, n, s, b, h] = ["a", "n", "s", "b", "h"].map(column);
    let like = |negated, case_insensitive| -> Arc<dyn PhysicalExpr> {
        Arc::new(LikeExpr::new(negated, case_insensitive, Arc::clone(&s), lit("x%")))
    };
    let list = |negated, values: Vec<Arc<dyn PhysicalExpr>>, of: &Arc<dyn PhysicalExpr>| {
        in_list(Arc::clone(of), values, &negated, &schema()).expect("values of its type")
    };
    let case = |of: Option<&Arc<dyn PhysicalExpr>>, when: Arc<dyn PhysicalExpr>| -> Arc<dyn PhysicalExpr> {
        let otherwise = of.map(|_| Arc::clone(&h));
        Arc::new(CaseExpr::try_new(of.cloned(), vec![(when, half(1.0))], otherwise).expect("a case"))
    };
    let target = |data_type: DataType| Arc::new(Field::new("x", data_type, true).with_metadata(metadata()));
    let safe = || Some(arrow::compute::CastOptions { safe: true, ..DEFAULT_CAST_OPTIONS });
    let call = |function: Arc<ScalarUDF>, arguments: Vec<Arc<dyn PhysicalExpr>>| -> Arc<dyn PhysicalExpr> {
        let options = Arc::clone(context().session_config().options());
        let call = ScalarFunctionExpr::try_new(function, arguments, &schema(), options);
        Arc::new(call.expect("arguments of its types"))
    };
    let with_metadata =
        || call(datafusion::functions::core::with_metadata(), vec![Arc::clone(&a), lit("unit"), lit("ms")]);
    let test = Arc::new(BinaryExpr::new(Arc::clone(&h), Operator::Gt, half(1.0)));
    let filter = DynamicFilterPhysicalExpr::new(vec![Arc::clone(&h)], test);
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    vec![
        Arc::new(Literal::new_with_metadata(ScalarValue::from(1_i64), Some((&metadata()).into()))),
        Arc::new(IsNullExpr::new(Arc::clone(&a))),
        Arc::new(IsNotNullExpr::new(Arc::clone(&a))),
        Arc::new(NotExpr::new(Arc::clone(&b))),
        Arc::new(NegativeExpr::new(Arc::clone(&h))),
        like(false, false),
        like(true, false),
        like(false, true),
        like(true, true),
        list(false, vec![half(1.0), half(2.5)], &h),
        list(true, vec![lit(1_i64), lit(ScalarValue::Int64(None))], &a),
        list(true, vec![Arc::clone(&n), lit(3_i64)], &a),
        case(None, Arc::clone(&b)),
        case(Some(&a), lit(5_i64)),
        Arc::new(CastExpr::new(Arc::clone(&n), DataType::Int32, None)),
        Arc::new(CastExpr::new(Arc::clone(&s), interval, safe())),
        Arc::new(CastExpr::new_with_target_field(Arc::clone(&n), target(DataType::Int32), None)),
        Arc::new(CastExpr::new_with_target_field(Arc::clone(&n), target(DataType::Float16), safe())),
        Arc::new(TryCastExpr::new(Arc::clone(&s), DataType::Float16)),
        Arc::new(TryCastExpr::new_with_target_field(Arc::clone(&s), target(DataType::Int8))),
        call(datafusion::functions::unicode::character_length(), vec![Arc::clone(&s)]),
        with_metadata(),
        call(datafusion::functions::core::arrow_metadata(), vec![with_metadata(), lit("unit")]),
        Arc::new(BinaryExpr::new(with_metadata(), Operator::Plus, lit(1_i64))),
        Arc::new(filter),
    ]
}

/// An expression with each binary operator that DataFusion can compute. Some of them are nested.
fn operations() -> Vec<Arc<dyn PhysicalExpr>> {
    use Operator::*;
    let [a, s, b, h] = ["a", "s", "b", "h"].map(column);
    let of = |operator, left: &Arc<dyn PhysicalExpr>, right: &Arc<dyn PhysicalExpr>| -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::clone(left), operator, Arc::clone(right)))
    };
    let numbers =
        [Plus, Minus, Multiply, Divide, Modulo, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseShiftRight, BitwiseShiftLeft];
    let comparisons = [Eq, NotEq, Lt, LtEq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom];
    let texts = [
        RegexMatch,
        RegexIMatch,
        RegexNotMatch,
        RegexNotIMatch,
        LikeMatch,
        ILikeMatch,
        NotLikeMatch,
        NotILikeMatch,
        StringConcat,
    ];
    let numbers = numbers.map(|operator| of(operator, &of(operator, &a, &lit(3_i64)), &a));
    let comparisons = comparisons.map(|operator| of(operator, &h, &half(0.5)));
    let texts = texts.map(|operator| of(operator, &s, &lit("x")));
    let tests = [And, Or].map(|operator| of(operator, &of(operator, &b, &comparisons[0]), &b));
    numbers.into_iter().chain(comparisons.clone()).chain(texts).chain(tests).collect()
}

#[test]
fn expressions_of_every_kind_survive() {
    for expr in expressions().into_iter().chain(operations()).chain(all_values().into_iter().map(lit)) {
        assert_survives(&expr);
    }
}

fn assert_survives(expr: &Arc<dyn PhysicalExpr>) {
    let input = Arc::new(EmptyExec::new(schema()));
    let named = vec![(Arc::clone(expr), "x".to_owned())];
    let plan: Arc<dyn ExecutionPlan> = Arc::new(ProjectionExec::try_new(named, input).expect("a column"));
    let decoded = survived(&plan);
    let decoded = decoded.downcast_ref::<ProjectionExec>().expect("a projection");
    let decoded = &decoded.expr()[0].expr;
    // A dynamic filter is equal only to itself.
    if !expr.is::<DynamicFilterPhysicalExpr>() {
        assert!(**decoded == **expr, "{decoded:?} is not {expr:?}");
    }
    // The `dict_id` of a decoded dictionary may differ.
    let field = |expr: &Arc<dyn PhysicalExpr>| {
        expr.return_field(&schema()).map(|field| format!("{field:?}").replace(", dict_id: 1", "")).ok()
    };
    assert_eq!(field(decoded), field(expr), "{expr}");
    assert_eq!(decoded.to_string(), expr.to_string());
}

/// Queries whose plans contain each operator that is sent to executors, in each of its forms.
const QUERIES: &[&str] = &[
    "select 1 as x, arrow_cast(1.5, 'Float16') as h",
    "select a + 1 as x, upper(s) as s from t where a > 3 and s like 'x%'",
    "select * from t where h > arrow_cast(1, 'Float16') limit 3 offset 2",
    "select a from t where false",
    "select s, count(*) as c, sum(a) as x, avg(n) filter (where n > 2) as y from t group by s",
    "select count(distinct a), count(distinct s) from t",
    "select s, a, count(*) as c from t group by rollup (s, a)",
    "select s, array_agg(a order by n desc) as x, first_value(a order by n) as y, string_agg(s, ',' order by n) from t group by s",
    "select distinct s from t limit 2",
    "select s, max(n) as m from t group by s order by m desc limit 2",
    "select a, approx_percentile_cont(0.5) within group (order by n) from t group by a",
    "select * from t order by a desc nulls last, n limit 5",
    "select * from (select * from t order by a) union all select * from t where n > 1",
    "select t.a, u.s from t join u on t.a = u.a and t.n < u.n",
    "select t.a, u.s from t left join u on t.a = u.a where u.n is null",
    "select t.a from t full join u on t.a = u.a",
    "select a from t where a in (select a from u) and not exists (select 1 from u where u.n = t.n)",
    "select a from t where a not in (select a from u)",
    "select a from t intersect select a from u",
    "select a from t except select a from u",
    "select count(*) from t, u where t.a < u.n or t.s = u.s",
    "select count(*) from t cross join u",
    "select a, n > (select avg(n) from u) as x from t",
    "select a, row_number() over (partition by s order by n) as r, sum(n) over (order by n rows between 1 preceding and 2 following) as w from t",
    "select a, sum(n) over (order by h range between 1 preceding and current row) as w from t",
    "select a, count(*) over (order by a groups between 1 preceding and 1 following) as w, ntile(3) over (order by n) as b from t",
    "select a, lag(a, 2, 7) over (order by n) as l, lead(a) ignore nulls over (order by n) as m, nth_value(a, 2) over (order by n desc) as v from t",
    "select a, first_value(a) over (partition by s order by n desc) as f, max(a) over (partition by s) as m, sum(distinct a) over (partition by s) as d from t",
    "select unnest([a, n]) as x, s from t",
    "select unnest(named_struct('p', a, 'q', [n])) from t",
    "select value from generate_series(1, 10, 3)",
    "select value from range(timestamp '2020-01-01', timestamp '2020-01-03', interval '1 day')",
    "select * from (values (1, 'x', null), (2, 'y', 1.5)) v(p, q, r)",
    "select case when a > 1 then 'x' when a is null then null else s end as c, coalesce(a, n) as d, a between 1 and 2 as e from t",
    "select cast(a as varchar) as c, try_cast(s as int) as d, arrow_cast(a, 'Decimal128(10, 2)') as e, extract(year from z) as f from t",
    "select map([s], [a]) as m, [a, n] as l, named_struct('x', a, 'y', h) as st, d || 'z' as dz from t where d in ('p', 'q')",
    "select arrow_metadata(with_metadata(a, 'unit', 'ms'), 'unit') as m from t",
    "with recursive r(i) as (select 1 union all select i + 1 from r where i < 5) select * from r",
];

fn session(settings: &[(&str, &str)]) -> SessionContext {
    let mut config = session_config().with_create_default_catalog_and_schema(true).with_target_partitions(2);
    for (key, value) in settings {
        config.options_mut().set(key, value).expect("a setting");
    }
    let context = SessionContext::new_with_config(config);
    for name in ["t", "u"] {
        let batches = (0..2).map(|part| vec![rows(part)]).collect();
        let table = MemTable::try_new(schema(), batches).expect("rows of its schema");
        context.register_table(name, Arc::new(table)).expect("a name of its own");
    }
    context
}

fn rows(part: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..4).map(|row| part * 4 + row)));
    let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..4).map(|row| format!("x{row}"))));
    let schema = schema();
    let columns = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Int64 => Arc::clone(&numbers),
        DataType::Utf8 => Arc::clone(&words),
        DataType::Boolean => new_null_array(&DataType::Boolean, 4),
        DataType::Dictionary(..) => cast(&words, field.data_type()).expect("words"),
        other => cast(&numbers, other).expect("numbers"),
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).expect("columns of the schema")
}

#[tokio::test]
async fn plans_of_queries_survive() {
    let joins = [
        vec![],
        vec![("datafusion.optimizer.prefer_hash_join", "false")],
        vec![
            ("datafusion.optimizer.hash_join_single_partition_threshold", "0"),
            ("datafusion.optimizer.hash_join_single_partition_threshold_rows", "0"),
        ],
    ];
    for settings in joins {
        let session = session(&settings);
        for query in QUERIES {
            assert_plan_survives(&session, query).await;
        }
    }
}

#[tokio::test]
async fn lambdas_survive() {
    let session = session(&[("datafusion.sql_parser.dialect", "duckdb")]);
    assert_plan_survives(&session, "select array_transform([a, n], x -> x + 1) as x from t").await;
}

async fn assert_plan_survives(session: &SessionContext, query: &str) {
    let frame = session.sql(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let plan = frame.create_physical_plan().await.unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(described(&survived(&plan)), described(&plan), "{query}");
}

/// A text with the properties of a plan, operator by operator.
fn described(plan: &Arc<dyn ExecutionPlan>) -> String {
    let mut text = displayable(plan.as_ref()).indent(true).to_string();
    let mut write = |part: String| writeln!(text, "{part}").expect("memory");
    plan.apply(|node| {
        write(format!("{}: {:?}", node.name(), node.schema()));
        write(format!("{:?} {:?}", node.output_partitioning(), node.output_ordering()));
        write(format!("{:?} {:?}", node.fetch(), node.boundedness()));
        // Expressions are shown without `Debug`, because the ids of dynamic filters differ after decoding.
        let input = node.children().first().map_or_else(|| node.schema(), |child| child.schema());
        node.apply_expressions(&mut |expr| {
            write(format!("{expr} {:?}", expr.data_type(&input).ok()));
            Ok(TreeNodeRecursion::Continue)
        })?;
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            describe_aggregate(aggregate, &mut write);
        }
        for function in functions_of_windows(node).unwrap_or_default() {
            write(format!("{} {:?} {:?}", function.name(), function.get_window_frame(), function.expressions()));
            write(format!("{:?} {:?} {:?}", function.partition_by(), function.order_by(), function.field().ok()));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("nothing fails");
    text
}

fn describe_aggregate(aggregate: &AggregateExec, write: &mut impl FnMut(String)) {
    write(format!("{:?} {:?}", aggregate.mode(), aggregate.group_expr()));
    write(format!("{:?} {:?}", aggregate.filter_expr(), aggregate.limit_options()));
    for function in aggregate.aggr_expr() {
        let flags = (function.is_distinct(), function.ignore_nulls(), function.is_reversed());
        write(format!("{} {:?} {flags:?}", function.name(), function.field()));
        write(format!("{:?} {:?}", function.expressions(), function.order_bys()));
    }
}

#[test]
fn one_row_of_all_values_survives() {
    let exprs = all_values().into_iter().enumerate().map(|(index, value)| (lit(value), format!("c{index}")));
    let one_row = Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty())));
    let plan: Arc<dyn ExecutionPlan> =
        Arc::new(ProjectionExec::try_new(exprs.collect::<Vec<_>>(), one_row).expect("literals"));
    assert_eq!(survived(&plan).schema(), plan.schema());
}
