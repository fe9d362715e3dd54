"""What does a worker need of the image that it runs in, and how does the library come into it?"""
