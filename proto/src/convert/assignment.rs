//! Assignments on the wire carry, beside what the machine decided, the address of each producer's executor.

use hwacha_model::{Assignment, ExecutorId, InputBinding, Producer, StageId};

use super::{MissingField, task_id};
use crate::control;

impl control::Assignment {
    /// The wire form; `address` gives where an executor's outputs are read.
    pub fn new(assignment: &Assignment, address: impl Fn(ExecutorId) -> String) -> Self {
        let inputs = assignment.inputs.iter().map(|input| control::InputBinding {
            stage: input.stage.0,
            producers: input
                .producers
                .iter()
                .map(|producer| control::Producer {
                    attempt: Some(producer.attempt.into()),
                    executor: producer.executor.0,
                    address: address(producer.executor),
                })
                .collect(),
            whole: input.whole,
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
            Ok(InputBinding { stage: StageId(input.stage), producers, whole: input.whole })
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
