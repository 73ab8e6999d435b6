"""One file a layout: how a data set lies on the hub or on a disk, read as queries, documents and judgements."""
