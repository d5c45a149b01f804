//! Encodes rows of all types as Flight messages with exactly the schema that was announced.
//!
//! The encoder of arrow-flight 59 announces large lists as lists and changes types within unions, so its stream
//! contradicts the `FlightInfo` (apache/arrow-rs#10291).

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;
use datafusion::common::Result;
use hwacha_operators::sendable::{sendable, sendable_schema};

/// Target size of a message in bytes of rows (2 MiB, as in arrow-flight).
const MESSAGE_BYTES: usize = 2 << 20;
/// Maximum bytes of a message of several rows (8 MiB: ADBC's drivers refuse 16 MiB). Messages get this large only if
/// the rows of a batch differ much in size. A message of one row may be larger.
const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Encodes the batches of one stream in turn.
pub(super) struct Encoder {
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    /// An encoder for rows of `schema`, and the schema message that goes first.
    pub(super) fn begin(schema: &SchemaRef) -> (Self, FlightData) {
        let generator = IpcDataGenerator::default();
        let mut dictionaries = DictionaryTracker::new(false);
        let options = IpcWriteOptions::default();
        let schema = sendable_schema(schema);
        let first = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut dictionaries, &options);
        (Self { generator, dictionaries, options, context: IpcWriteContext::default() }, first.into())
    }

    /// The messages of a batch. A large batch is cut into several messages.
    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>> {
        let all = batch.num_rows();
        let pieces = bytes(batch).div_ceil(MESSAGE_BYTES).clamp(1, all.max(1));
        let rows = all.div_ceil(pieces);
        let mut messages = vec![];
        for from in (0..all).step_by(rows.max(1)) {
            self.encode_piece(&batch.slice(from, rows.min(all - from)), &mut messages)?;
        }
        Ok(messages)
    }

    /// Encodes rows as one message, or in halves if the message would have more than `MAX_MESSAGE_BYTES`.
    fn encode_piece(&mut self, piece: &RecordBatch, messages: &mut Vec<FlightData>) -> Result<()> {
        let ready = sendable(piece.clone())?;
        let (dictionaries, rows) =
            self.generator.encode(&ready, &mut self.dictionaries, &self.options, &mut self.context)?;
        messages.extend(dictionaries.into_iter().map(FlightData::from));
        let half = piece.num_rows() / 2;
        if half == 0 || rows.arrow_data.len() <= MAX_MESSAGE_BYTES {
            messages.push(rows.into());
            return Ok(());
        }
        self.encode_piece(&piece.slice(0, half), messages)?;
        self.encode_piece(&piece.slice(half, piece.num_rows() - half), messages)
    }
}

/// Approximate bytes of the rows in messages.
fn bytes(batch: &RecordBatch) -> usize {
    let bytes = batch.columns().iter().map(|column| {
        // The size of a slice of views is unknown, so all buffers that the views refer to are counted.
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size())
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Int64Array, LargeListBuilder, StringArray, StringBuilder, StructArray, new_null_array,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};
    use arrow_flight::FlightInfo;
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{TryStreamExt, stream};

    use super::*;
    use crate::wire_schema::{to_wire, wire_schema};

    fn plain_types() -> Vec<DataType> {
        use DataType::*;
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let intervals = [IntervalUnit::YearMonth, IntervalUnit::DayTime, IntervalUnit::MonthDayNano];
        let mut types = vec![Null, Boolean, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64];
        types.extend([Float16, Float32, Float64, Date32, Date64, Utf8, LargeUtf8, Utf8View]);
        types.extend([Binary, LargeBinary, BinaryView, FixedSizeBinary(3)]);
        types.extend([Time32(units[0]), Time32(units[1]), Time64(units[2]), Time64(units[3])]);
        types.extend([Decimal32(9, 2), Decimal64(18, -3), Decimal128(38, 10), Decimal256(76, 0)]);
        types.extend(units.iter().flat_map(|unit| {
            [Timestamp(*unit, None), Timestamp(*unit, Some("Europe/Berlin".into())), Duration(*unit)]
        }));
        types.extend(intervals.map(Interval));
        types
    }

    /// Every container type with values of that type. The names of its parts are not the default names.
    fn containers(values: &DataType) -> Vec<DataType> {
        use DataType::*;
        let unit = [("unit".to_owned(), "ms".to_owned())].into();
        let item = Arc::new(Field::new("element", values.clone(), true).with_metadata(unit));
        let number = Arc::new(Field::new("n", Int32, true));
        let key = Arc::new(Field::new("k", Utf8, false));
        let entries = Arc::new(Field::new("pairs", Struct(Fields::from(vec![key, Arc::clone(&item)])), false));
        let members = || -> UnionFields { [(3, Arc::clone(&item)), (7, Arc::clone(&number))].into_iter().collect() };
        let mut types = vec![List(Arc::clone(&item)), LargeList(Arc::clone(&item)), ListView(Arc::clone(&item))];
        types.extend([LargeListView(Arc::clone(&item)), FixedSizeList(Arc::clone(&item), 2)]);
        types.extend([Struct(Fields::from(vec![number.clone(), Arc::clone(&item)])), Map(entries, false)]);
        types.extend([Union(members(), UnionMode::Sparse), Union(members(), UnionMode::Dense)]);
        let is_value = !matches!(values, Null | Union(..) | RunEndEncoded(..));
        if is_value {
            types.push(Dictionary(Box::new(Int8), Box::new(values.clone())));
        }
        types
    }

    async fn decoded(schema: FlightData, messages: Vec<FlightData>) -> (SchemaRef, Vec<RecordBatch>) {
        let messages = stream::iter([schema].into_iter().chain(messages).map(Ok));
        let mut stream = FlightRecordBatchStream::new_from_flight_data(messages);
        let batches = (&mut stream).try_collect().await.expect("decodable");
        (Arc::clone(stream.schema().expect("a schema goes first")), batches)
    }

    #[tokio::test]
    async fn streams_have_the_schema_that_was_announced() {
        let plain = plain_types();
        let nested: Vec<_> = plain.iter().flat_map(containers).collect();
        let twice: Vec<_> = containers(&DataType::Utf8View).iter().flat_map(containers).collect();
        for data_type in plain.into_iter().chain(nested).chain(twice) {
            let schema = Arc::new(Schema::new(vec![Field::new("c", data_type.clone(), true)]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![new_null_array(&data_type, 3)]);
            let wire = wire_schema(&schema);
            let rows = to_wire(&batch.expect("a batch"), &wire).expect("all types can leave");
            let info = FlightInfo::new().try_with_schema(&wire).expect("all types can be announced");
            let (mut encoder, first) = Encoder::begin(&wire);
            let messages = encoder.encode(&rows).expect("all types can be sent");
            let (sent, batches) = decoded(first, messages).await;
            assert_eq!(sent.as_ref(), &info.try_decode_schema().expect("a schema"), "{data_type}");
            assert_eq!(batches, [rows], "{data_type}");
        }
    }

    #[tokio::test]
    async fn large_lists_and_structs_arrive() {
        let mut lists = LargeListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a"), None]);
        lists.append_null();
        lists.append_value(Vec::<Option<&str>>::new());
        let lists: ArrayRef = Arc::new(lists.finish());
        let field = Arc::new(Field::new("l", lists.data_type().clone(), true));
        let structs = StructArray::from(vec![(field, Arc::clone(&lists))]);
        let batch = RecordBatch::try_from_iter_with_nullable([("l", lists, true), ("s", Arc::new(structs) as _, true)]);
        let batch = batch.expect("a batch");
        let (mut encoder, first) = Encoder::begin(&batch.schema());
        let messages = [encoder.encode(&batch), encoder.encode(&batch.slice(1, 2))].map(|it| it.expect("encodable"));
        let (_, batches) = decoded(first, messages.concat()).await;
        assert_eq!(batches, [batch.clone(), batch.slice(1, 2)]);
    }

    #[tokio::test]
    async fn messages_are_small_also_where_few_rows_are_large() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let words = (0..1000).map(|row| "x".repeat(if row < 20 { 2 << 20 } else { 1 }));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values(words));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("w", words)]).expect("a batch");
        let (mut encoder, first) = Encoder::begin(&batch.schema());
        let messages = encoder.encode(&batch).expect("encodable");
        let largest = messages.iter().map(|message| message.data_body.len()).max();
        assert!(largest <= Some(MAX_MESSAGE_BYTES), "{largest:?}");
        let (schema, batches) = decoded(first, messages).await;
        assert_eq!(concat_batches(&schema, &batches).expect("one schema"), batch);
    }

    #[test]
    fn batches_without_rows_give_no_messages() {
        let (mut encoder, _) = Encoder::begin(&Arc::new(Schema::empty()));
        assert!(encoder.encode(&RecordBatch::new_empty(Arc::new(Schema::empty()))).expect("encodable").is_empty());
    }
}
