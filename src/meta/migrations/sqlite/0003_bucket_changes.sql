-- A bucket that is changed or deleted is told to the gateways that have it loaded.

CREATE TRIGGER bucket_deleted AFTER DELETE ON buckets BEGIN
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', OLD.name, CAST(1000 * unixepoch('subsec') AS INTEGER));
END;

CREATE TRIGGER bucket_setting_added AFTER INSERT ON bucket_settings BEGIN
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', NEW.bucket, CAST(1000 * unixepoch('subsec') AS INTEGER));
END;

CREATE TRIGGER bucket_setting_changed AFTER UPDATE ON bucket_settings BEGIN
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', NEW.bucket, CAST(1000 * unixepoch('subsec') AS INTEGER));
END;

CREATE TRIGGER bucket_setting_removed AFTER DELETE ON bucket_settings BEGIN
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', OLD.bucket, CAST(1000 * unixepoch('subsec') AS INTEGER));
END;

CREATE TRIGGER mount_added AFTER INSERT ON mounts BEGIN
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', NEW.bucket, CAST(1000 * unixepoch('subsec') AS INTEGER));
END;

CREATE TRIGGER mount_removed AFTER DELETE ON mounts BEGIN
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', OLD.bucket, CAST(1000 * unixepoch('subsec') AS INTEGER));
END;
