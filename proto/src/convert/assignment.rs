//! Assignments on the wire: the decisions of the machine, and the address of each producer's executor.

use hwacha_model::{Assignment, ExecutorId, InputBinding, Producer, Reading, StageId};

use super::{MissingField, task_id};
use crate::control;

impl control::Assignment {
    /// The wire form. `address` returns the address where an executor serves its outputs.
    pub fn new(assignment: &Assignment, address: impl Fn(ExecutorId) -> String) -> Self {
        let inputs = assignment.inputs.iter().map(|input| {
            let producers = input.producers.iter().map(|producer| control::Producer {
                attempt: Some(producer.attempt.into()),
                executor: producer.executor.0,
                address: address(producer.executor),
            });
            let (reading, partitions) = reading(&input.reading);
            control::InputBinding {
                stage: input.stage.0,
                producers: producers.collect(),
                reading: reading.into(),
                partitions,
            }
        });
        Self {
            attempt: Some(assignment.attempt.into()),
            tasks: assignment.tasks,
            inputs: inputs.collect(),
            unhashed: assignment.unhashed,
            waves: assignment.waves,
        }
    }
}

impl TryFrom<&control::Assignment> for Assignment {
    type Error = MissingField;

    fn try_from(wire: &control::Assignment) -> Result<Self, MissingField> {
        let inputs = wire.inputs.iter().map(|input| {
            let producers = input.producers.iter().map(|producer| {
                Ok(Producer { attempt: task_id(producer.attempt, "attempt")?, executor: ExecutorId(producer.executor) })
            });
            let producers = producers.collect::<Result<_, _>>()?;
            Ok(InputBinding { stage: StageId(input.stage), producers, reading: input.into() })
        });
        Ok(Self {
            attempt: task_id(wire.attempt, "attempt")?,
            tasks: wire.tasks.max(1),
            inputs: inputs.collect::<Result<_, _>>()?,
            unhashed: wire.unhashed,
            waves: wire.waves.max(1),
        })
    }
}

fn reading(reading: &Reading) -> (control::Reading, Vec<u32>) {
    match reading {
        Reading::Share => (control::Reading::Share, vec![]),
        Reading::Whole => (control::Reading::Whole, vec![]),
        Reading::Copied(partitions) => (control::Reading::Copied, partitions.clone()),
        Reading::Dealt(partitions) => (control::Reading::Dealt, partitions.clone()),
    }
}

impl From<&control::InputBinding> for Reading {
    fn from(input: &control::InputBinding) -> Self {
        match input.reading() {
            control::Reading::Share => Self::Share,
            control::Reading::Whole => Self::Whole,
            control::Reading::Copied => Self::Copied(input.partitions.clone()),
            control::Reading::Dealt => Self::Dealt(input.partitions.clone()),
        }
    }
}
