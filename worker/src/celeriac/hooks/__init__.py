"""Where does the library take part in Celery and kombu? Each module stands behind one of their extension points."""
