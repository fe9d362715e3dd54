"""The worker library's tests with the oldest and the newest versions that it supports."""
