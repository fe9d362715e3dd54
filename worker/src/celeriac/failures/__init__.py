"""Who is notified of a failure? Each failure reaches Sentry once, and the notification channels in few messages."""
