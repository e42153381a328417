//! Growing at the end: a value in one row, a body by the pages behind its last one.

use async_trait::async_trait;
use sluice_provider::{Append, AppendOptions, Appended, Error, ErrorKind, Key, ObjectInfo, PutBody, PutWhen, Result};

use crate::Database;
use crate::backend::on;
use crate::bodies;
use crate::provider::gather;
use crate::row::Stored;
use crate::settings::Kind;

/// How often an append begins again because another writer made or removed the object.
const RACES: usize = 16;

#[async_trait]
impl Append for Database {
    async fn append(&self, key: &Key, mut body: PutBody, append: &AppendOptions) -> Result<ObjectInfo> {
        let settings = &*self.settings;
        let (value, staged, bytes, largest) = match settings.kind {
            Kind::Values => {
                let value = gather(&mut body, settings.max_value_bytes).await?;
                let bytes = value.len() as u64;
                (value, None, bytes, settings.max_value_bytes)
            }
            Kind::Pages => {
                let staged = bodies::take_in(&self.backend, &settings.space, settings.page_bytes, &mut body).await?;
                let bytes = staged.bytes;
                (Vec::new(), Some(staged), bytes, i64::MAX as u64)
            }
        };
        let appended = Appended { bytes, seal: body.seal()? };
        let when = &append.put.when;
        for _ in 0..RACES {
            let number = staged.as_ref().map_or(0, |staged| staged.body);
            let rule = (append.offset, when, &append.growth);
            let grown = on!(&self.backend, store => {
                store.append((&settings.space, key), (&value, number), &appended, rule, largest).await
            })?;
            if let Some(info) = grown {
                return Ok(info);
            }
            when.check(None)?;
            if append.offset != 0 {
                return Err(Error::new(ErrorKind::WriteOffset { size: 0 }, "append").with("key", key));
            }
            let mut attributes = append.put.attributes.clone();
            attributes.extend(appended.seal.attributes.iter());
            let page = if number == 0 { 0 } else { settings.page_bytes };
            let new = Stored::new(bytes, &appended.seal.etag, &attributes, number, page)?;
            let content = (number == 0).then_some(value.as_slice());
            let made = on!(&self.backend, store => {
                store.publish(&settings.space, key, &new, content, &PutWhen::IfAbsent).await
            });
            match made {
                Ok(info) => {
                    if let Some(staged) = staged {
                        staged.published();
                    }
                    return Ok(info);
                }
                Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "append").with("key", key))
    }
}
