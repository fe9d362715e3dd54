"""What does a worker need of the image that it runs in, and how is the library added to the image?"""
