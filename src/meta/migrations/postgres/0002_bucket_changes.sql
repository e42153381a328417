-- A bucket that is changed or deleted is told to the gateways that have it loaded.

-- The lock is that of every transaction that tells of a change: numbers become visible in their order.
CREATE FUNCTION tell_bucket_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7743512862);
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', OLD.name, now());
    RETURN NULL;
END $$;

CREATE FUNCTION tell_bucket_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7743512862);
    INSERT INTO changes (topic, subject, made) VALUES ('bucket', COALESCE(NEW.bucket, OLD.bucket), now());
    RETURN NULL;
END $$;

CREATE TRIGGER bucket_deleted AFTER DELETE ON buckets FOR EACH ROW EXECUTE FUNCTION tell_bucket_deleted();
CREATE TRIGGER bucket_setting_changed AFTER INSERT OR UPDATE OR DELETE ON bucket_settings
    FOR EACH ROW EXECUTE FUNCTION tell_bucket_changed();
CREATE TRIGGER mount_changed AFTER INSERT OR UPDATE OR DELETE ON mounts FOR EACH ROW EXECUTE FUNCTION tell_bucket_changed();
