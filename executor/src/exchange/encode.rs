//! Record batches as Flight messages: their schema, then for each batch its new dictionaries and its rows.
//!
//! Dictionaries stay dictionaries. Columns that Arrow IPC cannot carry are converted first ([`sendable`]). The encoder
//! of arrow-flight 59 is not used: it announces large lists as lists if it keeps dictionaries, and it copies all
//! buffers of a batch into one.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::buffer::Buffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{CompressionType, root_as_message};
use bytes::Bytes;
use datafusion::common::Result;
use hwacha_operators::compact_views::{without_any_waste, without_waste};
use hwacha_operators::sendable::{sendable, sendable_schema};

use super::wire::Parts;

/// Size of a batch above which it is cut into several messages (4 MiB: cuts are expensive, readers accept 256 MiB).
const MESSAGE_BYTES: usize = 4 << 20;
/// Size of a piece above which it is cut again if it has several rows (64 MiB: a quarter of what readers accept).
const LARGE_MESSAGE_BYTES: usize = 64 << 20;
/// Bytes before the metadata of an Arrow IPC message: a mark, and the length of the metadata in the last four.
const METADATA_PREFIX_BYTES: usize = 8;

/// Encodes the batches of one stream in turn.
pub(super) struct Encoder(StreamEncoder);

impl Encoder {
    pub(super) fn new(schema: &SchemaRef, compressed: bool) -> Result<Self> {
        let compression = compressed.then_some(CompressionType::LZ4_FRAME);
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        Ok(Self(StreamEncoder::try_new_with_options(&sendable_schema(schema), options)?))
    }

    /// The messages of a batch, as parts to write. A batch above `MESSAGE_BYTES` is cut into several messages. The
    /// messages of the first batch begin with the schema.
    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        let pieces = batch.get_array_memory_size().div_ceil(MESSAGE_BYTES).clamp(1, batch.num_rows().max(1));
        let rows = batch.num_rows().div_ceil(pieces);
        let mut parts = Parts::default();
        if pieces == 1 {
            self.piece(batch.clone(), &mut parts)?;
            return Ok(parts.into_bytes());
        }
        for piece in 0..pieces {
            let from = (piece * rows).min(batch.num_rows());
            self.cut(batch.slice(from, rows.min(batch.num_rows() - from)), usize::MAX, &mut parts)?;
        }
        Ok(parts.into_bytes())
    }

    /// Encodes `rows`, which were cut from rows of `of_bytes` bytes. `rows` above 64 MiB are halved again, unless they
    /// have more than three quarters of `of_bytes`, since cuts help little then. Example: two rows of 40 MiB become two
    /// messages.
    fn cut(&mut self, mut rows: RecordBatch, of_bytes: usize, parts: &mut Parts) -> Result<()> {
        if is_large(&rows) {
            // `get_array_memory_size` of a slice counts the whole array, so the rows are copied and measured again.
            let all: UInt32Array = (0..rows.num_rows() as u32).collect();
            rows = without_any_waste(take_record_batch(&rows, &all)?)?;
        }
        // A slice of a string view column still holds the text buffers of the whole column.
        let rows = without_waste(rows)?;
        let bytes = bytes_in_rows(&rows);
        if !is_large(&rows) || bytes > of_bytes / 4 * 3 {
            return self.piece(rows, parts);
        }
        let half = rows.num_rows() / 2;
        self.cut(rows.slice(0, half), bytes, parts)?;
        self.cut(rows.slice(half, rows.num_rows() - half), bytes, parts)
    }

    fn piece(&mut self, rows: RecordBatch, parts: &mut Parts) -> Result<()> {
        Ok(messages(self.0.encode(&sendable(rows)?)?, parts)?)
    }
}

/// Whether a piece is cut again: it has at least two rows and more than `LARGE_MESSAGE_BYTES`.
fn is_large(rows: &RecordBatch) -> bool {
    rows.num_rows() > 1 && bytes_in_rows(rows) > LARGE_MESSAGE_BYTES
}

/// Bytes of these rows in messages, without dictionary columns: the values of a dictionary have a message of their
/// own.
pub(super) fn bytes_in_rows(rows: &RecordBatch) -> usize {
    let in_rows = |column: &&ArrayRef| !matches!(column.data_type(), DataType::Dictionary(..));
    rows.columns().iter().filter(in_rows).map(|column| column.get_array_memory_size()).sum()
}

/// Splits a part of an IPC stream into messages. The prefix of a message has the length of the metadata, and the
/// metadata has the length of the body.
fn messages(stream: Vec<Buffer>, parts: &mut Parts) -> Result<(), ArrowError> {
    let mut stream = stream.into_iter().filter(|buffer| !buffer.is_empty());
    while let Some(prefix) = stream.next() {
        let length =
            prefix.get(METADATA_PREFIX_BYTES - 4..METADATA_PREFIX_BYTES).and_then(|bytes| bytes.try_into().ok());
        let length = u32::from_le_bytes(length.ok_or_else(out_of_step)?);
        let metadata = take(&mut stream, length as usize)?.iter().map(Buffer::as_slice).collect::<Vec<_>>().concat();
        let message = root_as_message(&metadata).map_err(|error| ArrowError::IpcError(error.to_string()))?;
        let body = take(&mut stream, usize::try_from(message.bodyLength()).map_err(|_| out_of_step())?)?;
        parts.push(metadata.into(), body)?;
    }
    Ok(())
}

/// Takes the next buffers, which must have `bytes` bytes together.
fn take(stream: &mut impl Iterator<Item = Buffer>, bytes: usize) -> Result<Vec<Buffer>, ArrowError> {
    let (mut taken, mut left) = (vec![], bytes);
    while left > 0 {
        let buffer = stream.next().ok_or_else(out_of_step)?;
        left = left.checked_sub(buffer.len()).ok_or_else(out_of_step)?;
        taken.push(buffer);
    }
    Ok(taken)
}

fn out_of_step() -> ArrowError {
    ArrowError::IpcError("the encoder's messages and their lengths do not agree".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, Int32Array, Int64Array, Int64Builder, LargeListBuilder, StringArray, StringViewArray,
        StructArray,
    };
    use arrow::compute::{cast, concat_batches};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{TryStreamExt, stream};
    use hwacha_operators::sendable::received;

    use super::*;
    use crate::exchange::wire;

    async fn round_trip(batches: &[RecordBatch]) -> Vec<RecordBatch> {
        let plain = encoded(batches, false);
        let compressed = decoded(encoded(batches, true)).await;
        assert_eq!(compressed, decoded(plain.clone()).await);
        decoded(plain).await
    }

    fn encoded(batches: &[RecordBatch], compressed: bool) -> Vec<Bytes> {
        let mut encoder = Encoder::new(&batches[0].schema(), compressed).expect("a schema that can be sent");
        batches.iter().flat_map(|batch| encoder.encode(batch).expect("encodable")).collect()
    }

    async fn decoded(parts: Vec<Bytes>) -> Vec<RecordBatch> {
        let response = wire::response(stream::iter([Ok(parts)]));
        let messages = wire::messages(response.into_body()).map_err(Into::into);
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
    async fn dictionaries_of_dictionaries_arrive_on_their_own_and_in_structs() {
        let words: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        let keys = Int32Array::from(vec![Some(1), None, Some(0)]);
        let twofold: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(words)));
        let field = Arc::new(Field::new("d", twofold.data_type().clone(), true));
        let structs: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&twofold))]));
        let batch = RecordBatch::try_from_iter_with_nullable([("d", twofold, true), ("s", structs, true)]);
        let batch = batch.expect("a batch");
        let sent = round_trip(std::slice::from_ref(&batch)).await;
        let rows = received(sent[0].clone(), &batch.schema()).expect("what was sent");
        assert_eq!(rows.schema(), batch.schema());
        let words = cast(rows.column(0), &DataType::Utf8).expect("texts");
        let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a")]));
        assert_eq!(&words, &expected);
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
    fn rows_of_very_different_sizes_are_cut_where_the_large_ones_are() {
        let texts = (0..40).map(|row| "x".repeat(if row < 2 { 40 << 20 } else { 1 }));
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let batch = RecordBatch::try_from_iter([("t", column)]).expect("a batch");
        let largest = encoded(&[batch], false).iter().map(Bytes::len).max();
        assert!(largest <= Some(LARGE_MESSAGE_BYTES), "{largest:?}");
    }

    #[tokio::test]
    async fn pieces_take_only_their_own_text_along() {
        let text = StringViewArray::from_iter_values((0..100_000).map(|n| format!("{n:->90}")));
        let batch = RecordBatch::try_from_iter([("t", Arc::new(text) as ArrayRef)]).expect("a batch");
        let parts = encoded(std::slice::from_ref(&batch), false);
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        assert!(bytes < batch.get_array_memory_size() * 5 / 4, "{bytes} of {}", batch.get_array_memory_size());
        let pieces = decoded(parts).await;
        assert!(pieces.len() > 1, "{} pieces", pieces.len());
        assert_eq!(concat_batches(&batch.schema(), &pieces).expect("one schema"), batch);
    }

    #[test]
    fn compressed_messages_are_smaller() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10_000).map(|n| n % 10)));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("a batch");
        let bytes =
            |compressed| -> usize { encoded(std::slice::from_ref(&batch), compressed).iter().map(Bytes::len).sum() };
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
