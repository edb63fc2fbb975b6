//! Passwords of database users: where they are sealed, and opening them.

use secrecy::{ExposeSecret as _, SecretString};
use windlass_core::{Error, id::InstanceId};
use windlass_db::objects::{ObjectKey, ObjectRow};

use crate::app::Context;

/// The place that a user's sealed password is bound to.
pub(crate) fn place(instance: InstanceId, key: &ObjectKey) -> String {
    format!("database_object/{instance}/{}/{}/secret_sealed", key.kind, key.name)
}

/// The password of a user.
pub(super) fn open(cx: &Context, instance: InstanceId, user: &ObjectRow) -> Result<SecretString, Error> {
    let sealed = user
        .secret_sealed
        .as_deref()
        .ok_or_else(|| Error::internal(format!("user {} has no stored password", user.key.name)))?;
    let opened = cx.sealer.open(&place(instance, &user.key), sealed)?;
    String::from_utf8(opened.expose_secret().to_vec())
        .map(SecretString::from)
        .map_err(|_| Error::internal(format!("the stored password of {} is not text", user.key.name)))
}
