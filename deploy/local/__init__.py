"""Everything on this machine: embedded Valkey and Postgres, and the supervisor of `dianzan up`."""
