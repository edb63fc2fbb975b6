//! How a command that started an operation ends: wait or not, then print what there is.

use windlass_proto::api::v1::{GetInstanceRequest, Operation};

use crate::{args::Waiting, context::Context, failure::Failure, names, wait::Followed};

impl Context {
    /// Follows the operation and prints the instance it made or changed.
    pub(super) async fn settle_instance(
        &self,
        operation: Operation,
        waiting: &Waiting,
        name: &str,
    ) -> Result<(), Failure> {
        match self.follow(operation, waiting).await? {
            Followed::Left(operation) => self.left(&operation),
            Followed::Done(_) => {
                let api = self.api().await?;
                let request = GetInstanceRequest { name: name.to_owned() };
                let instance = api.call(async || api.instances().get_instance(request.clone()).await).await?;
                self.out.one(&instance)
            }
        }
    }

    /// Follows the operation; when it is done, says `done` and prints the operation where a document is wanted.
    pub(super) async fn settle(&self, operation: Operation, waiting: &Waiting, done: &str) -> Result<(), Failure> {
        match self.follow(operation, waiting).await? {
            Followed::Left(operation) => self.left(&operation),
            Followed::Done(operation) => {
                self.out.note(done);
                self.out.document_only(&operation)
            }
        }
    }

    /// Prints the result of a call that only checked.
    pub(super) fn checked(&self, operation: &Operation) -> Result<(), Failure> {
        self.out.note("valid; nothing was changed");
        self.out.document_only(operation)
    }

    fn left(&self, operation: &Operation) -> Result<(), Failure> {
        self.out.note(format!("begun; follow it with: windlass operation wait {}", names::short(&operation.name)));
        self.out.text(&operation.name, operation)
    }
}
