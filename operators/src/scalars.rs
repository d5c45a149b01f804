//! Single values on the wire: literals, bounds of window frames, keys of run-time filters.
//!
//! DataFusion 55's encoding changes some values: a Float16 comes back as a Float32 (datafusion #15815). It refuses
//! lists of dictionaries of dictionaries. So each value is decoded right after it was encoded. A value that was
//! changed or refused is sent as an Arrow column with one row instead. If the Arrow column changes the value too, the
//! query fails. So no executor computes with a value that differs from the plan's.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err, internal_err, not_impl_err};
use datafusion_proto::protobuf;
use hwacha_proto::exchange as wire;
use hwacha_proto::exchange::scalar::Form;
use prost::Message;

use crate::sendable::{received, sendable};

/// A value's form on the wire.
///
/// # Errors
///
/// `NotImplemented` if the value would arrive changed in both forms.
pub fn encode_scalar(value: &ScalarValue) -> Result<wire::Scalar> {
    let form = match in_datafusion(value) {
        Some(encoded) => Form::Datafusion(encoded.encode_to_vec()),
        None => Form::Arrow(in_arrow(value)?),
    };
    Ok(wire::Scalar { form: Some(form) })
}

/// Reads what [`encode_scalar`] wrote.
pub fn decode_scalar(scalar: &wire::Scalar) -> Result<ScalarValue> {
    match &scalar.form {
        Some(Form::Datafusion(bytes)) => {
            let value = protobuf::ScalarValue::decode(bytes.as_slice()).map_err(|e| internal_datafusion_err!("{e}"))?;
            Ok(ScalarValue::try_from(&value)?)
        }
        Some(Form::Arrow(column)) => from_arrow(column),
        None => internal_err!("a value came without one"),
    }
}

/// Whether DataFusion's encoding gives the value back unchanged.
pub fn survives(value: &ScalarValue) -> bool {
    in_datafusion(value).is_some()
}

/// DataFusion's encoding of a value, if it gives the value back unchanged.
fn in_datafusion(value: &ScalarValue) -> Option<protobuf::ScalarValue> {
    let encoded = protobuf::ScalarValue::try_from(value).ok()?;
    let decoded = ScalarValue::try_from(&encoded).ok()?;
    is_same(&decoded, value).then_some(encoded)
}

/// Compares the types too: equality of values ignores time zones and the names of fields within a type.
fn is_same(one: &ScalarValue, other: &ScalarValue) -> bool {
    one.data_type() == other.data_type() && one == other
}

fn in_arrow(value: &ScalarValue) -> Result<wire::ArrowScalar> {
    let schema = column_of(value.data_type());
    let batch = sendable(RecordBatch::try_new(Arc::clone(&schema), vec![value.to_array()?])?)?;
    let mut stream = vec![];
    let mut writer = StreamWriter::try_new(&mut stream, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let data_type = protobuf::ArrowType::try_from(&value.data_type())?.encode_to_vec();
    let column = wire::ArrowScalar { stream, data_type };
    match from_arrow(&column) {
        Ok(decoded) if is_same(&decoded, value) => Ok(column),
        _ => {
            not_impl_err!("a value of type {} cannot be sent to executors; cast it to another type", value.data_type())
        }
    }
}

fn from_arrow(column: &wire::ArrowScalar) -> Result<ScalarValue> {
    let data_type = protobuf::ArrowType::decode(column.data_type.as_slice());
    let data_type = DataType::try_from(&data_type.map_err(|error| internal_datafusion_err!("{error}"))?)?;
    match StreamReader::try_new(column.stream.as_slice(), None)?.next() {
        Some(batch) => ScalarValue::try_from_array(received(batch?, &column_of(data_type))?.column(0), 0),
        None => internal_err!("a value came without its row"),
    }
}

fn column_of(data_type: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", data_type, true)]))
}
