"""`make bench`: Tenantry beside its peers, interleaved in one run, on servers of their own."""
