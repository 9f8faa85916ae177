//! `dt_meta` and Decaton's old wrapper.

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::TaskMetadata;

/// Any bytes as the value of a `dt_meta` header, and as a record that may be a wrapper.
pub fn task_metadata(bytes: &[u8]) {
    if let Ok(metadata) = TaskMetadata::decode(bytes) {
        let encoded = metadata.clone().encode();
        assert_eq!(TaskMetadata::decode(&encoded).as_ref(), Ok(&metadata));
        assert_eq!(
            TaskMetadata::decode_legacy_request(&wrapper(&encoded, bytes)).ok(),
            { Some((metadata, Bytes::copy_from_slice(bytes))) }
        );
    }
    let value = Bytes::copy_from_slice(bytes);
    if let Ok((metadata, task)) = TaskMetadata::decode_legacy_request(&value) {
        assert_eq!(
            TaskMetadata::decode(&metadata.clone().encode()),
            Ok(metadata)
        );
        assert!(
            task.is_empty() || value.as_ptr_range().contains(&task.as_ptr()),
            "a copied task"
        );
    }
}

/// A wrapper by the book: field 1 is the metadata, field 2 the task.
fn wrapper(metadata: &[u8], task: &[u8]) -> Bytes {
    let mut wrapper = BytesMut::new();
    for (tag, content) in [(0x0a, metadata), (0x12, task)] {
        wrapper.put_u8(tag);
        prost::encode_length_delimiter(content.len(), &mut wrapper).expect("memory grows");
        wrapper.put_slice(content);
    }
    wrapper.freeze()
}
