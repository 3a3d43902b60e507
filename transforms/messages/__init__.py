"""Message logs: types of messages, their decoding in whole columns, and maps to our signals."""
