"""What a move tells about itself: events while it runs, a report when it ends."""
