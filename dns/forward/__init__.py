"""Names outside our zones: upstreams, their health, a cache, and the exchange itself."""
