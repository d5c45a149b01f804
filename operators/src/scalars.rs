//! Single values on the wire: literals, bounds of window frames, keys of run-time filters.
//!
//! DataFusion 55's encoding alters some: a Float16 comes back as a Float32 (datafusion #15815), and lists of dictionaries
//! of dictionaries are refused. So each value is decoded right after it was encoded. One that is not the same any more
//! goes as a column of Arrow with one row. One that is altered by that, too, is refused, so no executor computes with
//! another value than was planned.

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
/// `NotImplemented` if the value would not arrive as it is.
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

/// Whether DataFusion's encoding gives the value back as it is.
pub fn survives(value: &ScalarValue) -> bool {
    in_datafusion(value).is_some()
}

/// DataFusion's encoding of a value, if that gives the value back.
fn in_datafusion(value: &ScalarValue) -> Option<protobuf::ScalarValue> {
    let encoded = protobuf::ScalarValue::try_from(value).ok()?;
    let decoded = ScalarValue::try_from(&encoded).ok()?;
    is_same(&decoded, value).then_some(encoded)
}

/// Equality leaves out time zones and what the fields within a type are called.
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
