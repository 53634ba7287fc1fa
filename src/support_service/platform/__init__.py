"""What any service needs: settings, telemetry, database, Redis, authentication, audit log, background jobs."""
