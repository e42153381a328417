//! Growing and renaming: blocks are shared, so that neither depends on the size of the object.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use sluice_provider::{
    Append, AppendOptions, Appended, Error, ErrorKind, Key, ObjectInfo, PutBody, PutWhen, Rename, RenameOptions, Result,
    Versioning,
};

use crate::Memory;
use crate::blocks::Blocks;
use crate::index::Stored;
use crate::provider::{Draft, expect_etag, hold_for};

#[async_trait]
impl Append for Memory {
    async fn append(&self, key: &Key, mut body: PutBody, append: &AppendOptions) -> Result<ObjectInfo> {
        let tail = Blocks::gather(self.quota(), &mut body).await?;
        let appended = Appended { bytes: tail.size(), seal: body.seal()? };
        let mut state = self.state().write();
        let Some(current) = state.objects.get(key).cloned() else {
            append.put.when.check(None)?;
            if append.offset != 0 {
                return Err(Error::new(ErrorKind::WriteOffset { size: 0 }, "append").with("key", key));
            }
            let mut attributes = append.put.attributes.clone();
            attributes.extend(appended.seal.attributes.iter());
            let draft = Draft::new(self.quota(), key, tail, appended.seal.etag, attributes)?;
            return draft.publish(&mut state, &PutWhen::Always, Versioning::Off).map(|(info, _)| info);
        };
        append.put.when.check(Some(&current.info.etag))?;
        if append.offset != current.info.size {
            return Err(Error::new(ErrorKind::WriteOffset { size: current.info.size }, "append").with("key", key));
        }
        let seal = append.growth.of(&current.info, &appended)?;
        let blocks = current.blocks.followed_by(self.quota(), &tail)?;
        let hold = hold_for(self.quota(), key, &seal.attributes)?;
        let info = ObjectInfo {
            key: key.clone(),
            size: blocks.size(),
            etag: seal.etag,
            modified: SystemTime::now(),
            attributes: seal.attributes,
        };
        let grown = Arc::new(Stored { info: info.clone(), blocks, _hold: hold });
        let replaced = state.objects.insert(key.clone(), grown);
        drop(state);
        drop((replaced, current));
        Ok(info)
    }
}

#[async_trait]
impl Rename for Memory {
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let mut state = self.state().write();
        let missing = || Error::new(ErrorKind::NotFound, "rename").with("key", from);
        let source = state.objects.get(from).cloned().ok_or_else(missing)?;
        expect_etag(&source.info, rename.source_if_match.as_ref())?;
        rename.when.check(state.objects.get(to).map(|there| &there.info.etag))?;
        let mut info = ObjectInfo { key: to.clone(), ..source.info.clone() };
        for (name, value) in &rename.set {
            match value {
                Some(value) => info.attributes.set(name, value),
                None => drop(info.attributes.remove(name)),
            }
        }
        let hold = hold_for(self.quota(), to, &info.attributes)?;
        let renamed = Arc::new(Stored { info: info.clone(), blocks: source.blocks.clone(), _hold: hold });
        let removed = state.objects.remove(from);
        let replaced = state.objects.insert(to.clone(), renamed);
        drop(state);
        drop((removed, replaced, source));
        Ok(info)
    }
}
