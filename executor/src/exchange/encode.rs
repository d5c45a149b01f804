//! Record batches as Flight messages: their schema, then for each batch its new dictionaries and its rows.
//!
//! Dictionaries stay dictionaries. (arrow-flight 59's own encoder announces large lists as lists when it keeps them.)

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;

/// Bytes of one message; large enough to be cheap, far below what readers accept.
const MESSAGE_BYTES: usize = 2 << 20;

/// Encodes the batches of one stream in turn.
pub(super) struct Encoder {
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
    options: IpcWriteOptions,
}

impl Encoder {
    /// The encoder, and the message that opens the stream.
    pub(super) fn new(schema: &Schema, compressed: bool) -> (Self, FlightData) {
        let compression = compressed.then_some(CompressionType::LZ4_FRAME);
        let options = IpcWriteOptions::default().try_with_compression(compression);
        let mut encoder = Self {
            generator: IpcDataGenerator {},
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
            options: options.expect("the feature is on"),
        };
        let schema = encoder.generator.schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut encoder.dictionaries,
            &encoder.options,
        );
        (encoder, schema.into())
    }

    /// The messages of a batch, which is cut where it is too large for one.
    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let pieces = batch.get_array_memory_size().div_ceil(MESSAGE_BYTES).clamp(1, batch.num_rows().max(1));
        let rows = batch.num_rows().div_ceil(pieces);
        let mut messages = vec![];
        for piece in 0..pieces {
            let from = (piece * rows).min(batch.num_rows());
            let piece = batch.slice(from, rows.min(batch.num_rows() - from));
            let (dictionaries, rows) =
                self.generator.encode(&piece, &mut self.dictionaries, &self.options, &mut self.context)?;
            messages.extend(dictionaries.into_iter().map(FlightData::from));
            messages.push(rows.into());
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, Int64Builder, LargeListBuilder, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int32Type;
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{TryStreamExt, stream};

    use super::*;

    async fn round_trip(batches: &[RecordBatch]) -> Vec<RecordBatch> {
        let plain = encoded(batches, false);
        let compressed = decoded(encoded(batches, true)).await;
        assert_eq!(compressed, decoded(plain.clone()).await);
        decoded(plain).await
    }

    fn encoded(batches: &[RecordBatch], compressed: bool) -> Vec<FlightData> {
        let (mut encoder, first) = Encoder::new(&batches[0].schema(), compressed);
        let mut messages = vec![first];
        for batch in batches {
            messages.extend(encoder.encode(batch).expect("encodable"));
        }
        messages
    }

    async fn decoded(messages: Vec<FlightData>) -> Vec<RecordBatch> {
        let messages = stream::iter(messages.into_iter().map(Ok));
        FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.expect("decodable")
    }

    #[tokio::test]
    async fn types_and_changing_dictionaries_survive() {
        let batch = |words: [&str; 2]| {
            let mut lists = LargeListBuilder::new(Int64Builder::new());
            lists.append_value([Some(1), None]);
            lists.append_value([]);
            let words: DictionaryArray<Int32Type> = words.into_iter().collect();
            let columns: [(&str, ArrayRef); 2] = [("l", Arc::new(lists.finish())), ("d", Arc::new(words))];
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
                .expect("a batch")
        };
        let batches = [batch(["a", "b"]), batch(["b", "c"])];
        assert_eq!(round_trip(&batches).await, batches);
    }

    #[tokio::test]
    async fn large_batches_are_cut() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000_000).map(|n| n.to_string())));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("w", words)]).expect("a batch");
        let pieces = round_trip(std::slice::from_ref(&batch)).await;
        assert!(pieces.len() > 3, "{} pieces", pieces.len());
        assert_eq!(concat_batches(&batch.schema(), &pieces).expect("one schema"), batch);
    }

    #[test]
    fn compressed_messages_are_smaller() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10_000).map(|n| n % 10)));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("a batch");
        let bytes = |compressed| -> usize {
            encoded(std::slice::from_ref(&batch), compressed).iter().map(|message| message.data_body.len()).sum()
        };
        assert!(bytes(true) * 4 < bytes(false), "{} of {}", bytes(true), bytes(false));
    }

    #[tokio::test]
    async fn batches_without_rows_or_columns_survive() {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(7));
        let columnless =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("a batch");
        assert_eq!(round_trip(std::slice::from_ref(&columnless)).await[0].num_rows(), 7);
    }
}
