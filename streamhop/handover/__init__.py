"""One move: who says what when, when to freeze, and what is durable."""
