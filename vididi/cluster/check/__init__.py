"""A cluster file of `ray up`, checked before it is used (`vididi cluster check`)."""
