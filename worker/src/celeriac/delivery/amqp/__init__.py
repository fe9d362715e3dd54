"""What does the library add to RabbitMQ's own delivery? A limit of deliveries, dead letters, and delays."""
