"""What is moved: image layers, configuration, trees and memory."""
