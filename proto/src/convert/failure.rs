//! Failures on the wire. They keep their kind, so no decision depends on the text.

use hwacha_model::{Failure, FailureKind};

use super::{MissingField, task_id};
use crate::control;
use crate::control::failure::Kind;

impl From<Failure> for control::Failure {
    fn from(failure: Failure) -> Self {
        let producer = match failure.kind {
            FailureKind::ExchangeLost { producer } => Some(producer.into()),
            _ => None,
        };
        Self { kind: wire_kind(&failure.kind) as i32, message: failure.message, producer }
    }
}

fn wire_kind(kind: &FailureKind) -> Kind {
    match kind {
        FailureKind::UserError => Kind::UserError,
        FailureKind::ResourcesExhausted => Kind::ResourcesExhausted,
        FailureKind::ExecutorLost => Kind::ExecutorLost,
        FailureKind::ExchangeLost { .. } => Kind::ExchangeLost,
        FailureKind::Unavailable => Kind::Unavailable,
        FailureKind::StoreUnavailable => Kind::StoreUnavailable,
        FailureKind::Outgrown => Kind::Outgrown,
        FailureKind::Canceled => Kind::Canceled,
        FailureKind::Internal => Kind::Internal,
    }
}

impl TryFrom<control::Failure> for Failure {
    type Error = MissingField;

    fn try_from(failure: control::Failure) -> Result<Self, MissingField> {
        let kind = match failure.kind() {
            Kind::UserError => FailureKind::UserError,
            Kind::ResourcesExhausted => FailureKind::ResourcesExhausted,
            Kind::ExecutorLost => FailureKind::ExecutorLost,
            Kind::ExchangeLost => FailureKind::ExchangeLost { producer: task_id(failure.producer, "producer")? },
            Kind::Unavailable => FailureKind::Unavailable,
            Kind::StoreUnavailable => FailureKind::StoreUnavailable,
            Kind::Outgrown => FailureKind::Outgrown,
            Kind::Canceled => FailureKind::Canceled,
            Kind::Internal => FailureKind::Internal,
        };
        Ok(Self { kind, message: failure.message })
    }
}
